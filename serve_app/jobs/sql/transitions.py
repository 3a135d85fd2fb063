"""How a job ends, whoever ends it: its state, its log, its webhook and its input change in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.database.tables import deliveries, events, inputs, jobs, now
from serve_app.errors import WireError
from serve_app.jobs.model import JobState, LogLevel

ALIVE = (JobState.QUEUED.value, JobState.RUNNING.value)
TERMINAL = tuple(state.value for state in JobState if state.terminal)


async def end(
    connection: AsyncConnection,
    which: ColumnElement[bool],
    state: JobState,
    error: WireError | None = None,
    **values: Any,
) -> list[str]:
    """End the jobs that `which` picks, and return their ids."""
    statement = (
        update(jobs)
        .where(which)
        .values(
            state=state.value,
            finished_at=now(),
            error=asdict(error) if error else None,
            **values,
        )
        .returning(jobs.c.id, jobs.c.webhook)
    )
    ended = (await connection.execute(statement)).all()
    if not ended:
        return []
    ids = [row.id for row in ended]
    await connection.execute(delete(inputs).where(inputs.c.job_id.in_(ids)))
    for row in ended:
        await tell(connection, row.id, state, error, row.webhook)
    return ids


async def tell(
    connection: AsyncConnection, job_id: str, state: JobState, error: WireError | None, webhook: str | None
) -> None:
    """The last line of a job's log, and its webhook into the outbox."""
    if state is JobState.FAILED:
        await log(connection, job_id, [text_of(error)], LogLevel.ERROR)
    else:
        await log(connection, job_id, [state.value.lower()])
    if webhook is not None:
        row = {"job_id": job_id, "url": webhook, "attempts": 0, "next_at": now(), "done": False}
        await connection.execute(insert(deliveries).values(row))


async def log(
    connection: AsyncConnection, job_id: str, lines: Sequence[str], level: LogLevel = LogLevel.INFO
) -> None:
    """Add lines to a job's log. The caller's transaction has written the job's row before: its lock lets the numbers
    of one job become visible in their order, so a reader that goes on after the last number misses none.
    """
    rows = [{"job_id": job_id, "level": level.value, "message": line} for line in lines]
    if rows:
        await connection.execute(insert(events).values(at=now()), rows)


def text_of(error: WireError | None) -> str:
    """What an error says, whichever of the two shapes it has on the wire."""
    detail = error.body.get("detail") if error else None
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = detail[0].get("msg")
    return str(detail or "failed")
