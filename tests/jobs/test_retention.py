"""The job table on both databases: retention after a job's end, and the outbox of webhooks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import Table

from serve_app.database.tables import deliveries, events, inputs, jobs
from serve_app.jobs.model import Expired, NewJob
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import ExpirySettings
from tests.jobs.steps import ERROR, claim_one, finished, get_job, started, stored, submit
from tests.waiting import PATIENCE_S

DAY = 86400.0
URL = "http://host/hook"


async def age(store: SqlJobStore, seconds: float) -> None:
    """Moves the end of all finished jobs `seconds` into the past."""
    async with store._database.writing() as connection:
        await connection.exec_driver_sql(f"UPDATE jobs SET finished_at = finished_at - {seconds}")


async def test_files_expire_before_rows(store: SqlJobStore) -> None:
    await finished(store, "one")
    await finished(store, "two")
    await started(store, "running")
    await submit(store, "queued")
    retention = ExpirySettings(files_s=7 * DAY, jobs_s=30 * DAY)
    assert await store.expired(retention, 10) == Expired([], [])
    await age(store, 8 * DAY)
    assert await store.expired(retention, 1) == Expired(["one"], [])
    assert await store.expired(retention, 10) == Expired(["one", "two"], [])
    await store.files_deleted(["one"])
    assert await store.expired(retention, 10) == Expired(["two"], [])
    await age(store, 23 * DAY)
    assert await store.expired(retention, 10) == Expired(["two"], ["one"])


async def test_a_row_outlives_its_files(store: SqlJobStore) -> None:
    await finished(store, "one")
    await age(store, 8 * DAY)
    retention = ExpirySettings(files_s=7 * DAY, jobs_s=DAY)
    assert await store.expired(retention, 10) == Expired(["one"], [])
    assert await store.expired(ExpirySettings(files_s=9 * DAY, jobs_s=DAY), 10) == Expired([], [])
    await store.files_deleted(["one"])
    assert await store.expired(retention, 10) == Expired([], ["one"])


async def test_a_job_can_set_its_lifetime(store: SqlJobStore) -> None:
    await finished(store, "short", lifetime_s=60.0)
    await finished(store, "for-ever", lifetime_s=math.inf)
    await finished(store, "default")
    await age(store, 61)
    assert (await store.expired(ExpirySettings(files_s=DAY), 10)).files == ["short"]
    assert (await store.expired(ExpirySettings(files_s=None), 10)).files == ["short"]
    await age(store, 10_000 * DAY)
    assert (await store.expired(ExpirySettings(files_s=DAY), 10)).files == ["short", "default"]


async def test_no_limits_keep_everything(store: SqlJobStore) -> None:
    await finished(store, "one")
    await age(store, 10_000 * DAY)
    assert await store.expired(ExpirySettings(files_s=None, jobs_s=None), 10) == Expired([], [])
    await store.files_deleted(["one"])
    assert await store.expired(ExpirySettings(files_s=None, jobs_s=None), 10) == Expired([], [])


async def test_results_not_to_be_kept_are_deleted(store: SqlJobStore) -> None:
    await finished(store, "kept")
    await finished(store, "unkept", keep_result=False)
    await store.expired(ExpirySettings(unkept_s=60.0), 10)
    assert (await get_job(store, "unkept")).result == {"name": "unkept"}
    await age(store, 61)
    await store.expired(ExpirySettings(unkept_s=60.0), 10)
    assert (await get_job(store, "unkept")).result is None
    assert (await get_job(store, "kept")).result == {"name": "kept"}


async def test_delete_removes_finished_jobs_and_their_related_rows(store: SqlJobStore) -> None:
    for name in ("one", "two"):
        lease = (await started(store, name, webhook=URL)).lease
        await store.complete(lease, {})
    await started(store, "running")
    await store.delete(["one", "running", "unknown"])
    assert await store.get("one") is None and await store.get("running") is not None

    async def owners(table: Table, column: str = "job_id") -> set[str]:
        return {row[column] for row in await stored(store, table)}

    assert await owners(jobs, "id") == await owners(events) == {"two", "running"}
    assert await owners(deliveries) == {"two"}
    assert await owners(inputs) == {"running"}
    await submit(store, "one")  # the id is free again


@pytest.mark.parametrize(
    "end", ["complete", "fail", "cancel", "cancel a running one", "start deadline", "refused"]
)
async def test_every_terminal_state_puts_the_webhook_into_the_outbox(store: SqlJobStore, end: str) -> None:
    await submit(store, "quiet")
    await store.release((await claim_one(store)).lease)
    if end == "refused":
        await store.insert(NewJob("one", {}, webhook=URL, error=ERROR))
    else:
        deadline: dict[str, Any] = {"start_timeout_s": -1.0} if end == "start deadline" else {}
        await submit(store, "one", webhook=URL, **deadline)
        assert await stored(store, deliveries) == []
    if end == "start deadline":
        await store.expire_waiting()
    elif end == "cancel":
        await store.request_cancel("one")
    elif end != "refused":
        _, claim = await store.claim("a", 60.0, 2)
        if end == "complete":
            await store.complete(claim.lease, {})
        elif end == "fail":
            await store.fail(claim.lease, ERROR)
        else:
            await store.request_cancel("one")
    await store.request_cancel("quiet")
    (row,) = await stored(store, deliveries)
    job = await get_job(store, "one")
    assert (row["job_id"], row["url"], row["attempts"], row["done"]) == ("one", URL, 0, False)
    assert job.finished_at is not None and row["next_at"] == pytest.approx(job.finished_at, abs=PATIENCE_S)


async def test_the_end_of_a_job_and_its_webhook_are_atomic(store: SqlJobStore) -> None:
    """If the delivery cannot be inserted, the end is rolled back."""
    claim = await started(store, "one", webhook=URL)
    async with store._database.writing() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO deliveries (job_id, url, attempts, next_at, done) VALUES ('one', '', 0, 0, true)"
        )
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.complete(claim.lease, {})
    assert (await store.heartbeat(claim.lease, 60.0)).held
    assert [event.message for event in await store.events("one")] == ["queued"]
    assert len(await stored(store, inputs)) == 1
