"""The part of the job table that keeps it small: what has served its time, and what belongs to nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import and_, delete, func, or_, select, update

from serve_app.database.engine import Database, unbroken
from serve_app.database.tables import deliveries, events, inputs, jobs, now, pieces
from serve_app.jobs.model import Expired, JobState
from serve_app.jobs.sql.transitions import ALIVE, TERMINAL
from serve_app.settings import ExpirySettings

BATCH = 500  # ids in one statement: databases bound the parameters


class RetentionQueries:
    """See `JobMaintenance` for what each method promises."""

    _database: Database

    @unbroken
    async def expired(self, expiry: ExpirySettings, limit: int) -> Expired:
        over = jobs.c.state.in_(TERMINAL)
        age = now() - jobs.c.finished_at
        files_s = func.coalesce(jobs.c.lifetime_s, _seconds(expiry.files_s))
        unkept = and_(over, ~jobs.c.keep_result, jobs.c.result.is_not(None), age >= expiry.unkept_s)
        with_files = and_(over, ~jobs.c.files_deleted, age >= files_s)
        # Its files are gone, so their time is over: a row outlives its files, however long those were kept.
        whole = and_(over, jobs.c.files_deleted, age >= _seconds(expiry.jobs_s))
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


def _seconds(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
