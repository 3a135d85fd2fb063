"""The sweeper's queries: expired files, results and jobs, and which work files are still in use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import and_, delete, func, or_, select, update

from serve_app.database.engine import Database, uninterrupted
from serve_app.database.tables import deliveries, events, inputs, jobs, now, pieces
from serve_app.jobs.model import Expired, JobState
from serve_app.jobs.sql.transitions import TERMINAL, UNFINISHED
from serve_app.settings import ExpirySettings

BATCH = 500  # ids in one statement: databases limit the number of parameters


class RetentionQueries:
    """Implements `JobMaintenance`."""

    _database: Database

    @uninterrupted
    async def expired(self, expiry: ExpirySettings, limit: int) -> Expired:
        finished = jobs.c.state.in_(TERMINAL)
        age = now() - jobs.c.finished_at
        files_s = func.coalesce(jobs.c.lifetime_s, _seconds(expiry.files_s))
        unkept = and_(finished, ~jobs.c.keep_result, jobs.c.result.is_not(None), age >= expiry.unkept_s)
        with_files = and_(finished, ~jobs.c.files_deleted, age >= files_s)
        # Only after its files were deleted: a row outlives its files, however long those are kept.
        without_files = and_(finished, jobs.c.files_deleted, age >= _seconds(expiry.jobs_s))
        ids = select(jobs.c.id).order_by(jobs.c.number).limit(limit)
        async with self._database.writing() as connection:
            await connection.execute(update(jobs).where(unkept).values(result=None))
            files = (await connection.execute(ids.where(with_files))).scalars().all()
            rows = (await connection.execute(ids.where(without_files))).scalars().all()
        return Expired(list(files), list(rows))

    @uninterrupted
    async def files_deleted(self, job_ids: Sequence[str]) -> None:
        async with self._database.writing() as connection:
            for ids in _batches(job_ids):
                await connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(files_deleted=True))

    @uninterrupted
    async def delete(self, job_ids: Sequence[str]) -> None:
        async with self._database.writing() as connection:
            for ids in _batches(job_ids):
                finished = delete(jobs).where(jobs.c.id.in_(ids), jobs.c.state.in_(TERMINAL))
                deleted = (await connection.execute(finished.returning(jobs.c.id))).scalars().all()
                for table in (inputs, events, pieces, deliveries):
                    await connection.execute(delete(table).where(table.c.job_id.in_(deleted)))

    async def unfinished(self, job_ids: Sequence[str]) -> set[str]:
        cleaning = and_(jobs.c.state == JobState.CANCELLED.value, jobs.c.expires_at > now())
        in_use = select(jobs.c.id).where(or_(jobs.c.state.in_(UNFINISHED), cleaning))
        found: set[str] = set()
        for ids in _batches(job_ids):
            rows = await self._database.scan(in_use.where(jobs.c.id.in_(ids)))
            found.update(row.id for row in rows)
        return found


def _seconds(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
