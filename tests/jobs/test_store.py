"""The job table on both databases: transitions, order and log."""

from __future__ import annotations

import math

import pytest

from serve_app.database.tables import inputs, jobs
from serve_app.errors import FeatureNotSupported, SetupError, StageError, to_wire
from serve_app.fal import Variant
from serve_app.jobs.model import CancelOutcome, JobState, NewJob, Priority, Progress
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.protocols import MediaFile
from tests.jobs.steps import (
    ERROR,
    EXPIRED_S,
    LEASE_S,
    claim_one,
    finished,
    get_job,
    log_lines,
    newest,
    started,
    stored,
    submit,
)


async def test_a_job_from_insert_to_result(store: SqlJobStore) -> None:
    job = await store.insert(NewJob("one", {"video_url": "http://host/one"}))
    assert job == await store.get("one") and job.state is JobState.QUEUED
    assert job.created_at > 1.7e9 and job.started_at is None and job.finished_at is None

    claim = await claim_one(store)
    assert claim.input == {"video_url": "http://host/one"} and claim.job.attempts == 1
    assert (claim.lease.owner, claim.lease.token) == ("a", 1)
    (row,) = await stored(store, jobs)
    assert row["expires_at"] >= job.created_at + LEASE_S
    assert await store.claim("b", LEASE_S, 1) == []

    assert await store.report(claim.lease, Progress("segmenting", 24, 132), ["chunk 1 of 6", "chunk 2 of 6"])
    assert await store.report(claim.lease, Progress("segmenting", 48, 132))
    job = await get_job(store, "one", JobState.RUNNING)
    assert job.progress == Progress("segmenting", 48, 132)

    assert await store.complete(claim.lease, {"video": {"name": "outputs/x"}})
    job = await get_job(store, "one", JobState.COMPLETED)
    assert job.state.terminal
    assert job.result == {"video": {"name": "outputs/x"}} and job.error is None and job.owner is None
    assert job.started_at is not None and job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    assert row["expires_at"] <= job.finished_at + LEASE_S
    assert await log_lines(store, "one") == [
        ("INFO", "queued"),
        ("INFO", "chunk 1 of 6"),
        ("INFO", "chunk 2 of 6"),
        ("INFO", "completed"),
    ]


async def test_the_options_of_a_request_are_stored(store: SqlJobStore) -> None:
    plain = await store.insert(NewJob("one", {}))
    assert plain.payload is None and plain.account is None and plain.retry
    await store.insert(NewJob("two", {}, {"video_url": "ä"}, account="me", fingerprint="f" * 64, retry=False))
    job = await get_job(store, "two")
    assert (job.payload, job.account, job.fingerprint) == ({"video_url": "ä"}, "me", "f" * 64)
    assert not job.retry and job.number > plain.number


async def test_a_failed_job_stores_its_error_reply(store: SqlJobStore) -> None:
    assert await store.fail((await started(store, "one")).lease, ERROR)
    job = await get_job(store, "one", JobState.FAILED)
    assert job.error == ERROR and job.owner is None
    assert await log_lines(store, "one") == [("INFO", "queued"), ("ERROR", "the host answered 404")]


async def test_a_job_can_be_inserted_as_failed(store: SqlJobStore) -> None:
    error = to_wire(FeatureNotSupported("not with this model", "operating_resolution"))
    job = await store.insert(NewJob("one", {"video_url": 3}, error=error))
    assert job.state is JobState.FAILED and job.error == error and job.finished_at is not None
    assert await store.claim("a", LEASE_S, 1) == []
    assert await log_lines(store, "one") == [("ERROR", "not with this model")]


async def test_the_end_deletes_the_input_and_keeps_the_payload(store: SqlJobStore) -> None:
    for name in ("completed", "failed", "cancelled", "late", "refused"):
        error = ERROR if name == "refused" else None
        deadline = -1.0 if name == "late" else None
        await store.insert(NewJob(name, {"x": 1}, payload={"y": 2}, error=error, start_timeout_s=deadline))
    for claim in await store.claim("a", LEASE_S, 3):
        if claim.job.id == "completed":
            await store.complete(claim.lease, {})
        elif claim.job.id == "failed":
            await store.fail(claim.lease, ERROR)
    await store.request_cancel("cancelled")
    assert await store.expire_waiting() == ["late"]
    assert await stored(store, inputs) == []
    assert [job.payload for job in await newest(store, 9)] == [{"y": 2}] * 5


async def test_unknown_and_repeated_ids(store: SqlJobStore) -> None:
    assert await store.get("none") is None and await store.events("none") == []
    assert await store.request_cancel("none") is CancelOutcome.UNKNOWN
    assert not await store.take_result("none")
    await submit(store, "one")
    with pytest.raises(ValueError, match="one"):
        await submit(store, "one")
    assert await log_lines(store, "one") == [("INFO", "queued")]


async def test_claims_are_ordered_by_priority_then_age(store: SqlJobStore) -> None:
    await submit(store, "low-1", priority=Priority.LOW)
    await submit(store, "normal-1", "normal-2")
    await submit(store, "low-2", priority=Priority.LOW)
    await submit(store, "normal-3")
    queue = ["normal-1", "normal-2", "normal-3", "low-1", "low-2"]
    assert await store.waiting() == 5
    assert [await store.position(await get_job(store, name)) for name in queue] == [0, 1, 2, 3, 4]
    first = await store.claim("a", LEASE_S, 2)
    assert await store.waiting() == 3
    assert [await store.position(await get_job(store, name)) for name in queue[2:]] == [0, 1, 2]
    rest = await store.claim("a", LEASE_S, 10)
    assert [claim.job.id for claim in first + rest] == queue
    assert [job.id for job in await newest(store, 2)] == ["normal-3", "low-2"]


async def test_the_log_can_be_read_from_a_line_on(store: SqlJobStore) -> None:
    lease = (await started(store, "one")).lease
    await submit(store, "two")
    await store.report(lease, Progress(), ["a", "b"])
    log = await store.events("one")
    assert [event.message for event in log] == ["queued", "a", "b"]
    assert [event.number for event in log] == sorted({event.number for event in log})
    assert all(event.at > 1.7e9 for event in log)
    assert await store.events("one", log[0].number) == log[1:]
    assert await store.events("one", log[-1].number) == []


async def test_a_result_is_taken_once(store: SqlJobStore) -> None:
    claim = await started(store, "one")
    assert not await store.take_result("one")
    await store.complete(claim.lease, {"x": 1})
    assert [await store.take_result("one") for _ in range(3)] == [True, False, False]
    assert (await get_job(store, "one")).result_taken
    await store.forget_result("one")
    assert (await get_job(store, "one", JobState.COMPLETED)).result is None


async def test_a_start_deadline_fails_only_jobs_that_never_started(store: SqlJobStore) -> None:
    await submit(store, "late", start_timeout_s=-1.0)
    await submit(store, "in-time", start_timeout_s=3600.0)
    await submit(store, "patient")
    claims = await store.claim("a", EXPIRED_S, 10)
    assert [claim.job.id for claim in claims] == ["in-time", "patient"]
    assert await store.expire_waiting() == ["late"]
    assert await store.expire_waiting() == []
    job = await get_job(store, "late", JobState.FAILED)
    assert job.error is not None and job.error.status == 504 and job.finished_at is not None
    assert job.error.headers["X-Fal-Request-Timeout-Type"] == "user"
    assert [level for level, _ in await log_lines(store, "late")] == ["INFO", "ERROR"]


async def test_a_released_job_has_met_its_start_deadline(store: SqlJobStore) -> None:
    await submit(store, "one", start_timeout_s=3600.0)
    assert await store.release((await claim_one(store)).lease)
    database = store._database
    async with (
        database.writing() as connection
    ):  # the deadline passes while the job waits for its second runner
        await connection.exec_driver_sql("UPDATE jobs SET start_by = 1")
    assert await store.expire_waiting() == []
    assert (await claim_one(store, "b")).job.id == "one"


async def test_counts(store: SqlJobStore) -> None:
    await finished(store, "a")
    await submit(store, "b", "c")
    assert await store.counts() == {
        JobState.QUEUED: 2,
        JobState.RUNNING: 0,
        JobState.COMPLETED: 1,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }


async def test_stored_jobs_survive_a_restart(store: SqlJobStore, database_url: str) -> None:
    request = JobRequest("data:,ä", variant=Variant.DYNAMIC, operating_size=2304)
    await store.insert(NewJob("one", request.as_json(), lifetime_s=math.inf))
    media = MediaFile("outputs/1/v.mp4", "video/mp4", "v.mp4", 10, 64, 48, 23.976, 1.5, 36)
    second = SqlJobStore(database_url)
    await second.open()
    claim = await claim_one(second)
    assert JobRequest.from_json(claim.input) == request
    await second.complete(claim.lease, JobResult(media).as_json())
    await second.close()
    job = await get_job(store, "one")
    assert job.result is not None and JobResult.from_json(job.result) == JobResult(media)


async def test_an_error_with_a_text_detail_is_logged_as_that_text(store: SqlJobStore) -> None:
    await store.fail((await started(store, "one")).lease, to_wire(StageError("out of memory")))
    assert (await log_lines(store, "one"))[-1] == ("ERROR", "out of memory")
    await store.request_cancel("one")
    await submit(store, "two")
    await store.request_cancel("two")
    assert (await log_lines(store, "two"))[-1] == ("INFO", "cancelled")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "jobs.db"])
def test_unsupported_databases_are_refused(url: str) -> None:
    with pytest.raises(SetupError, match="sqlite:///PATH"):
        SqlJobStore(url)


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    store = SqlJobStore("postgres://user:secret@127.0.0.1:1/jobs")
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:1/jobs cannot be used: .*refused") as caught:
        await store.open()
    assert "secret" not in str(caught.value)
