"""The runners' queries: claims, start deadlines, and writes under a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.database.engine import Database, uninterrupted
from serve_app.database.tables import inputs, jobs, now, pieces
from serve_app.errors import StartTimeout, WireError, to_wire
from serve_app.jobs.model import Claim, Heartbeat, JobState, Json, Lease, LogLevel, Progress
from serve_app.jobs.sql.rows import job_columns, to_job
from serve_app.jobs.sql.transitions import end, log

EXPIRE_BATCH = 500  # jobs failed in one transaction

_NO_LEASE = {"owner": None, "expires_at": None}


class LeaseQueries:
    """Implements `JobLeases`."""

    _database: Database

    @uninterrupted
    async def expire_waiting(self) -> list[str]:
        late = and_(jobs.c.state == JobState.QUEUED.value, jobs.c.token == 0, jobs.c.start_by <= now())
        error = to_wire(StartTimeout("Request timed out: no runner was free before its start deadline"))
        async with self._database.writing() as connection:
            return await end(connection, jobs.c.number.in_(first(late, EXPIRE_BATCH)), JobState.FAILED, error)

    @uninterrupted
    async def claim(self, owner: str, lease_s: float, limit: int) -> list[Claim]:
        # A start deadline no longer applies once a runner has claimed the job, even if it released it.
        in_time = or_(jobs.c.start_by.is_(None), jobs.c.token > 0, jobs.c.start_by > now())
        free = or_(
            and_(jobs.c.state == JobState.QUEUED.value, in_time),
            and_(jobs.c.state == JobState.RUNNING.value, jobs.c.expires_at < now()),
        )
        statement = (
            update(jobs)
            .where(jobs.c.number.in_(first(free, limit)))
            .values(
                state=JobState.RUNNING.value,
                owner=owner,
                token=jobs.c.token + 1,
                attempts=jobs.c.attempts + 1,
                expires_at=now() + lease_s,
                started_at=func.coalesce(jobs.c.started_at, now()),
            )
            .returning(*job_columns)
        )
        async with self._database.writing() as connection:
            rows = (await connection.execute(statement)).all()
            if not rows:
                return []
            wanted = select(inputs.c.job_id, inputs.c.input).where(
                inputs.c.job_id.in_([row.id for row in rows])
            )
            found: dict[str, Json] = {row.job_id: row.input for row in await connection.execute(wanted)}
        return [
            Claim(to_job(row), Lease(row.id, row.owner, row.token), found[row.id])
            for row in sorted(rows, key=lambda row: (row.priority, row.number))
        ]

    @uninterrupted
    async def heartbeat(self, lease: Lease, lease_s: float) -> Heartbeat:
        async with self._database.writing() as connection:
            if await _write(connection, lease, {"expires_at": now() + lease_s}):
                return Heartbeat(held=True)
            ended = (await connection.execute(select(jobs.c.id).where(cancelled_under(lease)))).first()
        return Heartbeat(held=False, cancelled=ended is not None)

    @uninterrupted
    async def report(
        self,
        lease: Lease,
        progress: Progress,
        lines: Sequence[str] = (),
        level: LogLevel = LogLevel.INFO,
    ) -> bool:
        async with self._database.writing() as connection:
            written = await _write(connection, lease, asdict(progress))
            if written:
                await log(connection, lease.job_id, lines, level)
            return written

    @uninterrupted
    async def record_piece(self, lease: Lease, number: int, piece: Json) -> bool:
        async with self._database.writing() as connection:
            # Locks the row too: no other runner can claim the job before the piece is recorded.
            if not await _write(connection, lease, {"attempts": 1}):
                return False
            same = and_(pieces.c.job_id == lease.job_id, pieces.c.number == number)
            await connection.execute(delete(pieces).where(same))
            await connection.execute(insert(pieces).values(job_id=lease.job_id, number=number, piece=piece))
            return True

    async def pieces(self, job_id: str) -> dict[int, Json]:
        statement = select(pieces.c.number, pieces.c.piece).where(pieces.c.job_id == job_id)
        rows = await self._database.read(statement.order_by(pieces.c.number))
        return {row.number: row.piece for row in rows}

    @uninterrupted
    async def complete(self, lease: Lease, result: Json) -> bool:
        async with self._database.writing() as connection:
            return bool(await end(connection, held(lease), JobState.COMPLETED, result=result, **_NO_LEASE))

    @uninterrupted
    async def fail(self, lease: Lease, error: WireError) -> bool:
        async with self._database.writing() as connection:
            return bool(await end(connection, held(lease), JobState.FAILED, error, **_NO_LEASE))

    @uninterrupted
    async def release(self, lease: Lease) -> bool:
        async with self._database.writing() as connection:
            back = {"state": JobState.QUEUED.value, "attempts": jobs.c.attempts - 1, **_NO_LEASE}
            return await _write(connection, lease, back)

    @uninterrupted
    async def cleaned(self, lease: Lease) -> None:
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(cancelled_under(lease)).values(_NO_LEASE))


def first(which: ColumnElement[bool], limit: int) -> Any:
    """A query for the numbers of the first `limit` jobs that `which` selects, in queue order.

    SQLite allows one writer at a time; Postgres skips rows that another process has locked. The common table expression
    keeps Postgres from evaluating the selection more than once, which would change more than `limit` rows.
    """
    chosen = (
        select(jobs.c.number)
        .where(which)
        .order_by(jobs.c.priority, jobs.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("chosen", nesting=True)
    )
    return select(chosen.c.number)


def held(lease: Lease) -> ColumnElement[bool]:
    """Selects the leased job if the lease is still held."""
    return and_(jobs.c.state == JobState.RUNNING.value, _of(lease))


def cancelled_under(lease: Lease) -> ColumnElement[bool]:
    """Selects the leased job if it was cancelled under this lease."""
    return and_(jobs.c.state == JobState.CANCELLED.value, _of(lease))


def _of(lease: Lease) -> ColumnElement[bool]:
    return and_(jobs.c.id == lease.job_id, jobs.c.owner == lease.owner, jobs.c.token == lease.token)


async def _write(connection: AsyncConnection, lease: Lease, values: dict[str, Any]) -> bool:
    return (await connection.execute(update(jobs).where(held(lease)).values(values))).rowcount == 1
