"""Steps that the tests of the job table share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, select

from serve_app.database.tables import jobs
from serve_app.errors import DownloadFailed, to_wire
from serve_app.jobs.model import Claim, Job, JobState, NewJob, Priority
from serve_app.jobs.sql.rows import job_columns, to_job
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.jobs.store import JobStore

LEASE_S = 60.0
EXPIRED_S = -1.0  # a lease that has expired when it is granted
ERROR = to_wire(DownloadFailed("the host answered 404"))


async def submit(store: JobStore, *names: str, priority: Priority = Priority.NORMAL, **fields: Any) -> None:
    for name in names:
        await store.insert(NewJob(name, {"video_url": f"http://host/{name}"}, priority=priority, **fields))


async def claim_one(store: JobStore, owner: str = "a", lease_s: float = LEASE_S) -> Claim:
    (claim,) = await store.claim(owner, lease_s, 1)
    return claim


async def started(store: JobStore, name: str, **fields: Any) -> Claim:
    await submit(store, name, **fields)
    return await claim_one(store)


async def finished(store: JobStore, name: str, **fields: Any) -> None:
    assert await store.complete((await started(store, name, **fields)).lease, {"name": name})


async def get_job(store: JobStore, name: str, state: JobState | None = None) -> Job:
    """The job, which must exist (in `state`, if given)."""
    job = await store.get(name)
    assert job is not None
    assert state is None or job.state is state
    return job


async def newest(store: SqlJobStore, limit: int) -> list[Job]:
    """Jobs of all accounts, newest first."""
    statement = select(*job_columns).order_by(jobs.c.number.desc()).limit(limit)
    return [to_job(row) for row in await store._database.read(statement)]


async def log_lines(store: JobStore, name: str) -> list[tuple[str, str]]:
    return [(event.level, event.message) for event in await store.events(name)]


async def stored(store: SqlJobStore, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, for columns that no method returns."""
    return [dict(row._mapping) for row in await store._database.read(select(table))]
