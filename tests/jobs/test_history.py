"""The job table on both databases: the history of an account, and the deletion of payloads."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.database.tables import jobs
from serve_app.errors import ReplicasLost, WireError, to_wire
from serve_app.jobs.model import Expired, HistoryPage, JobState, NewJob, Outcome
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import ExpirySettings
from tests.jobs.steps import ERROR, finished, get_job, started, stored, submit


async def names(store: SqlJobStore, limit: int = 10, account: str | None = None, **which: Any) -> list[str]:
    page = HistoryPage(account, limit, **which)
    return [job.id for job in await store.history(page)]


async def test_pages_list_the_newest_job_first(store: SqlJobStore) -> None:
    await submit(store, "1", "2", "3", "4", "5")
    first = await store.history(HistoryPage(None, 2))
    assert [job.id for job in first] == ["5", "4"]
    await submit(store, "6")
    assert await names(store, 2, before=first[-1].number) == ["3", "2"]
    assert await names(store, job_id="3") == ["3"]
    assert await names(store, job_id="7") == []


async def test_history_is_limited_to_the_account(store: SqlJobStore) -> None:
    await submit(store, "mine", account="me")
    await submit(store, "yours", account="you")
    await submit(store, "without account")
    assert await names(store, account="me") == ["mine"]
    assert await names(store) == ["without account"]
    assert await names(store, account="me", job_id="yours") == []


async def test_time_filters_use_the_creation_time(store: SqlJobStore) -> None:
    await submit(store, "old", "new")
    async with store._database.writing() as connection:
        await connection.exec_driver_sql("UPDATE jobs SET created_at = 1000 WHERE id = 'old'")
        await connection.exec_driver_sql("UPDATE jobs SET created_at = 2000 WHERE id = 'new'")
    assert await names(store, since=1000.0, until=2000.0) == ["old"]
    assert await names(store, since=1000.5) == ["new"]
    assert await names(store, until=2000.5) == ["new", "old"]


async def test_outcome_filters(store: SqlJobStore) -> None:
    await finished(store, "good")
    await store.fail((await started(store, "wrong")).lease, ERROR)
    await store.fail((await started(store, "broken")).lease, to_wire(ReplicasLost("three times")))
    await submit(store, "cancelled", "queued")
    await store.request_cancel("cancelled")
    await started(store, "running")
    assert await names(store, outcome=Outcome.SUCCESS) == ["good"]
    assert await names(store, outcome=Outcome.USER_ERROR) == ["cancelled", "wrong"]
    assert await names(store, outcome=Outcome.ERROR) == ["broken"]
    assert len(await names(store)) == 6


async def test_payloads_are_read_on_request_only(store: SqlJobStore) -> None:
    await finished(store, "one", payload={"sent": "one"})
    (without,) = await store.history(HistoryPage(None, 1))
    (whole,) = await store.history(HistoryPage(None, 1, payloads=True))
    assert without.payload is None and without.result is None
    assert without.state is whole.state is JobState.COMPLETED and without.number == whole.number
    assert (whole.payload, whole.result) == ({"sent": "one"}, {"name": "one"})


async def test_payloads_are_deleted_on_request(store: SqlJobStore) -> None:
    for name in ("one", "other"):
        await finished(store, name, payload={"sent": name})
    await store.forget_payloads("one")
    job = await get_job(store, "one", JobState.COMPLETED)
    assert job.payload is None and job.result is None and job.finished_at is not None
    other = await get_job(store, "other")
    assert (other.payload, other.result) == ({"sent": "other"}, {"name": "other"})
    # Its files count as deleted.
    assert await store.expired(ExpirySettings.model_construct(files_s=0.0), 10) == Expired(["other"], [])
    await store.forget_payloads("one")
    await store.forget_payloads("unknown")


async def test_deleting_payloads_removes_the_quoted_input_from_the_error(store: SqlJobStore) -> None:
    detail = [{"loc": ["body", "model"], "msg": "wrong", "type": "literal_error", "input": "mine"}]
    error = WireError(422, {"detail": detail}, {"X-Fal-Retryable": "false"})
    await store.insert(NewJob("one", {}, payload={"model": "mine"}, error=error))
    await store.fail((await started(store, "two")).lease, to_wire(ReplicasLost("three times")))
    await store.forget_payloads("one")
    await store.forget_payloads("two")
    job = await get_job(store, "one", JobState.FAILED)
    assert job.error is not None and job.error.headers == error.headers and job.error.status == 422
    assert job.error.body == {"detail": [{"loc": ["body", "model"], "msg": "wrong", "type": "literal_error"}]}
    assert (await get_job(store, "two")).error == to_wire(ReplicasLost("three times"))
    assert "mine" not in str([row for row in await stored(store, jobs) if row["id"] == "one"])


@pytest.mark.parametrize("started_first", [False, True])
async def test_an_unfinished_job_keeps_its_payload(store: SqlJobStore, started_first: bool) -> None:
    await submit(store, "one", payload={"sent": "one"})
    if started_first:
        await store.claim("a", 60.0, 1)
    await store.forget_payloads("one")
    (row,) = await stored(store, jobs)
    assert (row["payload"], row["files_deleted"]) == ({"sent": "one"}, False)
