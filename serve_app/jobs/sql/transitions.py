"""The end of a job: its state, log, webhook, input and recorded pieces change in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.database.tables import deliveries, events, inputs, jobs, now, pieces
from serve_app.errors import WireError
from serve_app.jobs.model import JobState, LogLevel

UNFINISHED = (JobState.QUEUED.value, JobState.RUNNING.value)
TERMINAL = tuple(state.value for state in JobState if state.terminal)


async def end(
    connection: AsyncConnection,
    which: ColumnElement[bool],
    state: JobState,
    error: WireError | None = None,
    **values: Any,
) -> list[str]:
    """Ends the jobs that `which` selects, and returns their ids."""
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
    for table in (inputs, pieces):
        await connection.execute(delete(table).where(table.c.job_id.in_(ids)))
    for row in ended:
        await record_end(connection, row.id, state, error, row.webhook)
    return ids


async def record_end(
    connection: AsyncConnection, job_id: str, state: JobState, error: WireError | None, webhook: str | None
) -> None:
    """Writes the last line of a job's log, and puts its webhook into the outbox."""
    if state is JobState.FAILED:
        await log(connection, job_id, [error_message(error)], LogLevel.ERROR)
    else:
        await log(connection, job_id, [state.value.lower()])
    if webhook is not None:
        row = {"job_id": job_id, "url": webhook, "attempts": 0, "next_at": now(), "done": False}
        await connection.execute(insert(deliveries).values(row))


async def log(
    connection: AsyncConnection, job_id: str, lines: Sequence[str], level: LogLevel = LogLevel.INFO
) -> None:
    """Appends lines to a job's log.

    The caller's transaction must have written the job's row before: that lock makes the numbers of one job visible in
    order, so that a reader that continues after the last number it saw misses none.
    """
    rows = [{"job_id": job_id, "level": level.value, "message": line} for line in lines]
    if rows:
        await connection.execute(insert(events).values(at=now()), rows)


def error_message(error: WireError | None) -> str:
    """The message of an error in either of its two wire forms."""
    detail = error.body.get("detail") if error else None
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = detail[0].get("msg")
    return str(detail or "failed")
