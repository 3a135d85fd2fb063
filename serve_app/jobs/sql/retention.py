"""The part of the job table that keeps it small and its readers informed: deadlines, retention, figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import and_, delete, func, or_, select, update

from serve_app.database.engine import Database, unbroken
from serve_app.database.tables import deliveries, events, inputs, jobs, now, pieces
from serve_app.errors import StartTimeout, to_wire
from serve_app.jobs.model import Expired, Job, JobState, Retention
from serve_app.jobs.sql.leases import first
from serve_app.jobs.sql.rows import job_columns, to_job
from serve_app.jobs.sql.transitions import ALIVE, TERMINAL, end

BATCH = 500  # ids in one statement: databases bound the parameters


class RetentionQueries:
    """See `JobStore` for what each method promises."""

    _database: Database

    @unbroken
    async def expire_waiting(self) -> list[str]:
        late = and_(jobs.c.state == JobState.QUEUED.value, jobs.c.token == 0, jobs.c.start_by <= now())
        error = to_wire(StartTimeout("Request timed out: no runner was free before its start deadline"))
        async with self._database.writing() as connection:
            return await end(connection, jobs.c.number.in_(first(late, BATCH)), JobState.FAILED, error)

    @unbroken
    async def expired(self, retention: Retention, limit: int) -> Expired:
        over = jobs.c.state.in_(TERMINAL)
        age = now() - jobs.c.finished_at
        files_s = func.coalesce(jobs.c.lifetime_s, _seconds(retention.files_s))
        unkept = and_(over, ~jobs.c.keep_result, jobs.c.result.is_not(None), age >= retention.unkept_s)
        with_files = and_(over, ~jobs.c.files_deleted, age >= files_s)
        # Its files are gone, so their time is over: a row outlives its files, however long those were kept.
        whole = and_(over, jobs.c.files_deleted, age >= _seconds(retention.jobs_s))
        ids = select(jobs.c.id).order_by(jobs.c.number).limit(limit)
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(unkept).values(result=None))
            files = (await connection.execute(ids.where(with_files))).scalars().all()
            rows = (await connection.execute(ids.where(whole))).scalars().all()
        return Expired(list(files), list(rows))

    @unbroken
    async def files_deleted(self, job_ids: Sequence[str]) -> None:
        async with self._database.writing() as connection:
            for ids in _batches(job_ids):
                await connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(files_deleted=True))

    @unbroken
    async def delete(self, job_ids: Sequence[str]) -> None:
        async with self._database.writing() as connection:
            for ids in _batches(job_ids):
                finished = delete(jobs).where(jobs.c.id.in_(ids), jobs.c.state.in_(TERMINAL))
                gone = (await connection.execute(finished.returning(jobs.c.id))).scalars().all()
                for table in (inputs, events, pieces, deliveries):
                    await connection.execute(delete(table).where(table.c.job_id.in_(gone)))

    async def unfinished(self, job_ids: Sequence[str]) -> set[str]:
        cleaning = and_(jobs.c.state == JobState.CANCELLED.value, jobs.c.expires_at > now())
        owned = select(jobs.c.id).where(or_(jobs.c.state.in_(ALIVE), cleaning))
        found: set[str] = set()
        for ids in _batches(job_ids):
            rows = await self._database.scan(owned.where(jobs.c.id.in_(ids)))
            found.update(row.id for row in rows)
        return found

    async def recent(self, limit: int) -> list[Job]:
        rows = await self._database.scan(select(*job_columns).order_by(jobs.c.number.desc()).limit(limit))
        return [to_job(row) for row in rows]

    async def counts(self) -> dict[JobState, int]:
        rows = await self._database.scan(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        found = {row[0]: row[1] for row in rows}
        return {state: found.get(state.value, 0) for state in JobState}


def _seconds(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
