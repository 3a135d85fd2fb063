"""`JobStore` on SQLAlchemy Core: SQLite on one machine; the statements know no dialect.

Each method is one transaction whose first statement writes (or only reads), so SQLite never has to upgrade a
read lock, which would fail instead of waiting for the other writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Update, and_, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from serve_app.errors import JobCancelled, WireError, to_wire
from serve_app.jobs.engine import make_engine, prepare
from serve_app.jobs.store import (
    CancelOutcome,
    Claim,
    Heartbeat,
    Job,
    JobState,
    Json,
    Lease,
    NewJob,
    Progress,
)
from serve_app.jobs.tables import job_columns, jobs, now, to_claim, to_job


class SqlJobStore:
    """A job table behind a SQLAlchemy URL, for example `sqlite:////var/lib/service/jobs.db`."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = make_engine(url)

    async def open(self) -> None:
        await prepare(self._engine)

    async def close(self) -> None:
        await self._engine.dispose()

    async def insert(self, job: NewJob) -> None:
        values = {
            "id": job.id,
            "state": JobState.QUEUED.value,
            "priority": int(job.priority),
            "created_at": now(),
            "token": 0,
            "cancel_requested": False,
            "input": job.input,
            **_progress(Progress()),
        }
        try:
            async with self._engine.begin() as connection:
                await connection.execute(insert(jobs).values(values))
        except IntegrityError as error:
            raise ValueError(f"a job with the id {job.id} exists") from error

    async def get(self, job_id: str) -> Job | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(*job_columns).where(jobs.c.id == job_id))).first()
        return to_job(row) if row is not None else None

    async def claim(self, owner: str, lease_s: float, limit: int) -> list[Claim]:
        free = or_(
            jobs.c.state == JobState.QUEUED.value,
            and_(jobs.c.state == JobState.RUNNING.value, jobs.c.expires_at < now()),
        )
        # SQLite takes one writer at a time; elsewhere rows that another runner is claiming are skipped.
        chosen = (
            select(jobs.c.number)
            .where(free)
            .order_by(jobs.c.priority, jobs.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(jobs)
            .where(jobs.c.number.in_(chosen))
            .values(
                state=JobState.RUNNING.value,
                owner=owner,
                token=jobs.c.token + 1,
                expires_at=now() + lease_s,
                started_at=func.coalesce(jobs.c.started_at, now()),
            )
            .returning(*jobs.c)
        )
        async with self._engine.begin() as connection:
            rows = (await connection.execute(statement)).all()
        return [to_claim(row) for row in sorted(rows, key=lambda row: (row.priority, row.number))]

    async def heartbeat(self, lease: Lease, lease_s: float) -> Heartbeat:
        statement = _under(lease).values(expires_at=now() + lease_s)
        async with self._engine.begin() as connection:
            returning = statement.returning(jobs.c.cancel_requested, jobs.c.expires_at)
            row = (await connection.execute(returning)).first()
        return Heartbeat(False, False) if row is None else Heartbeat(True, *row)

    async def progress(self, lease: Lease, progress: Progress) -> bool:
        return await self._write(lease, _progress(progress))

    async def complete(self, lease: Lease, result: Json) -> bool:
        return await self._finish(lease, JobState.COMPLETED, result=result)

    async def fail(self, lease: Lease, error: WireError) -> bool:
        return await self._finish(lease, JobState.FAILED, error=asdict(error))

    async def cancelled(self, lease: Lease) -> bool:
        return await self._finish(lease, JobState.CANCELLED, error=_cancelled())

    async def release(self, lease: Lease) -> bool:
        return await self._write(lease, {"state": JobState.QUEUED.value, "owner": None, "expires_at": None})

    async def forget_result(self, job_id: str) -> None:
        statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.COMPLETED.value)
        async with self._engine.begin() as connection:
            await connection.execute(statement.values(result=None))

    async def request_cancel(self, job_id: str) -> CancelOutcome:
        def change(condition: ColumnElement[bool]) -> Update:
            return update(jobs).where(jobs.c.id == job_id, condition)

        # A token above 0: a runner has had the job and may have left files, so a runner has to end it.
        untouched = and_(jobs.c.state == JobState.QUEUED.value, jobs.c.token == 0)
        alive = jobs.c.state.in_((JobState.QUEUED.value, JobState.RUNNING.value))
        end = {"state": JobState.CANCELLED.value, "finished_at": now(), "error": _cancelled(), "input": {}}
        async with self._engine.begin() as connection:
            if await _changes(connection, change(untouched).values(cancel_requested=true(), **end)):
                return CancelOutcome.CANCELLED
            if await _changes(connection, change(alive).values(cancel_requested=true())):
                return CancelOutcome.REQUESTED
            known = (await connection.execute(select(jobs.c.id).where(jobs.c.id == job_id))).first()
        return CancelOutcome.ALREADY_TERMINAL if known else CancelOutcome.UNKNOWN

    async def recent(self, limit: int) -> list[Job]:
        statement = select(*job_columns).order_by(jobs.c.number.desc()).limit(limit)
        async with self._engine.connect() as connection:
            return [to_job(row) for row in await connection.execute(statement)]

    async def counts(self) -> dict[JobState, int]:
        statement = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        async with self._engine.connect() as connection:
            found = {row[0]: row[1] for row in await connection.execute(statement)}
        return {state: found.get(state.value, 0) for state in JobState}

    async def _finish(self, lease: Lease, state: JobState, **values: Any) -> bool:
        # The input has served its purpose, and may hold a whole video as a data URI.
        end: dict[str, Any] = {
            "state": state.value,
            "finished_at": now(),
            "owner": None,
            "expires_at": None,
            "input": {},
        }
        return await self._write(lease, end | values)

    async def _write(self, lease: Lease, values: Mapping[str, Any]) -> bool:
        async with self._engine.begin() as connection:
            return await _changes(connection, _under(lease).values(values))


def _under(lease: Lease) -> Update:
    """An update of the leased job that touches nothing once the lease is lost."""
    return update(jobs).where(
        jobs.c.id == lease.job_id,
        jobs.c.state == JobState.RUNNING.value,
        jobs.c.owner == lease.owner,
        jobs.c.token == lease.token,
    )


async def _changes(connection: AsyncConnection, statement: Update) -> bool:
    return (await connection.execute(statement)).rowcount == 1


def _progress(progress: Progress) -> dict[str, Any]:
    return asdict(progress)


def _cancelled() -> dict[str, Any]:
    return asdict(to_wire(JobCancelled("Request was cancelled")))
