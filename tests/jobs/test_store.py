"""The job table: transitions, leases and races, on real SQLite files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from serve_app.errors import DownloadFailed, to_wire
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql import SqlJobStore
from serve_app.jobs.store import CancelOutcome, Claim, JobState, JobStore, Lease, NewJob, Priority, Progress
from serve_app.protocols import MediaFile, Variant

LEASE_S = 60.0
FOR_EVER_GONE_S = -1.0  # a lease that is over as soon as it is given


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'data' / 'jobs.db'}"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[SqlJobStore]:
    store = SqlJobStore(url)
    await store.open()
    yield store
    await store.close()


async def submit(store: JobStore, *names: str, priority: Priority = Priority.NORMAL) -> None:
    for name in names:
        await store.insert(NewJob(name, {"video_url": f"http://host/{name}"}, priority))


async def claim_one(store: JobStore, owner: str = "a", lease_s: float = LEASE_S) -> Claim:
    (claim,) = await store.claim(owner, lease_s, 1)
    return claim


async def test_a_job_from_insert_to_result(store: SqlJobStore) -> None:
    await submit(store, "one")
    job = await store.get("one")
    assert job is not None and job.state is JobState.QUEUED
    assert job.created_at > 1.7e9 and job.started_at is None and job.finished_at is None

    claim = await claim_one(store)
    assert claim.input == {"video_url": "http://host/one"}
    assert (claim.lease.owner, claim.lease.token) == ("a", 1)
    assert claim.lease.expires_at == pytest.approx(job.created_at + LEASE_S, abs=5)
    assert await store.claim("b", LEASE_S, 1) == []

    assert await store.progress(claim.lease, Progress("segmenting", 24, 132, "chunk 1 of 6"))
    job = await store.get("one")
    assert job is not None and job.state is JobState.RUNNING
    assert job.progress == Progress("segmenting", 24, 132, "chunk 1 of 6")

    assert await store.complete(claim.lease, {"video": {"name": "outputs/x"}})
    job = await store.get("one")
    assert job is not None and job.state is JobState.COMPLETED and job.state.terminal
    assert job.result == {"video": {"name": "outputs/x"}} and job.error is None and job.owner is None
    assert job.started_at is not None and job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at


async def test_a_failed_job_keeps_its_reply(store: SqlJobStore) -> None:
    await submit(store, "one")
    error = to_wire(DownloadFailed("the host answered 404"))
    assert await store.fail((await claim_one(store)).lease, error)
    job = await store.get("one")
    assert job is not None and job.state is JobState.FAILED and job.error == error


async def test_unknown_and_repeated_ids(store: SqlJobStore) -> None:
    assert await store.get("none") is None
    assert await store.request_cancel("none") is CancelOutcome.UNKNOWN
    await submit(store, "one")
    with pytest.raises(ValueError, match="one"):
        await submit(store, "one")


async def test_claims_go_by_priority_then_age(store: SqlJobStore) -> None:
    await submit(store, "low-1", priority=Priority.LOW)
    await submit(store, "normal-1", "normal-2")
    await submit(store, "low-2", priority=Priority.LOW)
    await submit(store, "normal-3")
    first = await store.claim("a", LEASE_S, 2)
    rest = await store.claim("a", LEASE_S, 10)
    assert [c.job.id for c in first] == ["normal-1", "normal-2"]
    assert [c.job.id for c in rest] == ["normal-3", "low-1", "low-2"]
    assert [job.id for job in await store.recent(2)] == ["normal-3", "low-2"]


async def test_an_expired_lease_is_claimed_again_and_the_first_holder_is_shut_out(store: SqlJobStore) -> None:
    await submit(store, "one", "two")
    lost = (await claim_one(store, "a", FOR_EVER_GONE_S)).lease
    taken = await claim_one(store, "b")
    assert taken.job.id == "one" and taken.job.state is JobState.RUNNING
    assert taken.lease.token == lost.token + 1

    for stale in (lost, Lease("one", "b", lost.token, 0.0), Lease("one", "a", taken.lease.token, 0.0)):
        assert not (await store.heartbeat(stale, LEASE_S)).held
        assert not await store.progress(stale, Progress("late"))
        assert not await store.complete(stale, {})
        assert not await store.fail(stale, to_wire(DownloadFailed("late")))
        assert not await store.cancelled(stale)
        assert not await store.release(stale)
    job = await store.get("one")
    assert job is not None and job.state is JobState.RUNNING and job.progress == Progress()
    assert await store.complete(taken.lease, {})


async def test_an_expired_lease_that_nobody_took_is_still_held(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store, "a", FOR_EVER_GONE_S)).lease
    beat = await store.heartbeat(lease, LEASE_S)
    assert beat.held and not beat.cancel_requested and beat.expires_at > lease.expires_at + LEASE_S
    assert await store.claim("b", LEASE_S, 1) == []


async def test_release_puts_a_job_back_in_its_place(store: SqlJobStore) -> None:
    await submit(store, "one", "two")
    first = await claim_one(store)
    started = first.job.started_at
    assert await store.release(first.lease)
    assert not await store.complete(first.lease, {})
    again = await claim_one(store, "b")
    assert again.job.id == "one" and again.lease.token == 2 and again.job.started_at == started


async def test_cancel_before_any_runner_ends_the_job(store: SqlJobStore) -> None:
    await submit(store, "one")
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    job = await store.get("one")
    assert job is not None and job.state is JobState.CANCELLED and job.finished_at is not None
    assert job.error is not None and job.error.status == 499
    assert job.error.body == {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert await store.claim("a", LEASE_S, 1) == []
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL


async def test_cancel_of_a_running_job_reaches_its_runner(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store)).lease
    assert await store.request_cancel("one") is CancelOutcome.REQUESTED
    assert await store.request_cancel("one") is CancelOutcome.REQUESTED
    beat = await store.heartbeat(lease, LEASE_S)
    assert beat.held and beat.cancel_requested
    assert await store.cancelled(lease)
    job = await store.get("one")
    assert job is not None and job.state is JobState.CANCELLED and job.error is not None
    assert not (await store.heartbeat(lease, LEASE_S)).held
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL


async def test_a_runner_may_finish_what_was_to_be_cancelled(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store)).lease
    await store.request_cancel("one")
    assert await store.complete(lease, {})
    job = await store.get("one")
    assert job is not None and job.state is JobState.COMPLETED


@pytest.mark.parametrize("end", ["release", "expiry"])
async def test_cancel_of_a_job_without_its_runner_goes_to_the_next(store: SqlJobStore, end: str) -> None:
    """The first runner may have left files behind; the next one sees the flag with its claim."""
    await submit(store, "one")
    first = await claim_one(store, lease_s=LEASE_S if end == "release" else FOR_EVER_GONE_S)
    if end == "release":
        await store.release(first.lease)
    assert await store.request_cancel("one") is CancelOutcome.REQUESTED
    claim = await claim_one(store, "b")
    assert claim.job.cancel_requested


async def test_counts(store: SqlJobStore) -> None:
    await submit(store, "a", "b", "c")
    await store.complete((await claim_one(store)).lease, {})
    assert await store.counts() == {
        JobState.QUEUED: 2,
        JobState.RUNNING: 0,
        JobState.COMPLETED: 1,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }


async def test_what_is_stored_survives_a_restart(store: SqlJobStore, url: str) -> None:
    request = JobRequest("data:,ä", variant=Variant.DYNAMIC, operating_size=2304)
    await store.insert(NewJob("one", request.as_json()))
    media = MediaFile("outputs/1/v.mp4", "video/mp4", "v.mp4", 10, 64, 48, 23.976, 1.5, 36)
    second = SqlJobStore(url)
    await second.open()
    claim = await claim_one(second)
    assert JobRequest.from_json(claim.input) == request
    await second.complete(claim.lease, JobResult(media).as_json())
    await second.close()
    job = await store.get("one")
    assert job is not None and job.result is not None
    assert JobResult.from_json(job.result) == JobResult(media)


async def test_the_file_is_in_wal_mode(store: SqlJobStore) -> None:
    async with store._engine.connect() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == 1
        assert (await connection.execute(text("PRAGMA busy_timeout"))).scalar() == 10_000


async def test_opening_waits_for_a_writer_of_a_file_that_is_not_in_wal_mode_yet(tmp_path: Path) -> None:
    """SQLite's own waiting does not cover this switch: it fails at once."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN IMMEDIATE")
        store = SqlJobStore(f"sqlite:///{path}")
        opening = asyncio.create_task(store.open())
        done, _ = await asyncio.wait({opening}, timeout=0.2)
        assert not done
        other.execute("COMMIT")
        await opening
        await submit(store, "one")
        await store.close()


async def test_concurrent_tasks_never_share_a_claim(store: SqlJobStore) -> None:
    names = [f"job-{i}" for i in range(40)]
    await submit(store, *names)

    async def work(owner: str) -> list[str]:
        done: list[str] = []
        while claims := await store.claim(owner, LEASE_S, 3):
            done += [claim.job.id for claim in claims]
        return done

    done = await asyncio.gather(*(work(f"runner-{i}") for i in range(8)))
    assert sorted(name for share in done for name in share) == sorted(names)


WORKER = """
import asyncio, json, sys
from serve_app.jobs.sql import SqlJobStore
from serve_app.jobs.store import NewJob

async def main(url, owner):
    store = SqlJobStore(url)
    await store.open()
    for i in range(10):
        await store.insert(NewJob(f"{owner}-{i}", {}))
    print("filled", flush=True)
    sys.stdin.readline()
    done = []
    while claims := await store.claim(owner, 60.0, 2):
        for claim in claims:
            done.append((claim.job.id, claim.lease.token))
            assert await store.complete(claim.lease, {"by": owner})
    await store.close()
    print(json.dumps(done), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def test_processes_that_start_at_once_share_one_table(url: str) -> None:
    """They race to create the file, the table and WAL mode; then to insert; then to claim."""
    command = [sys.executable, "-c", WORKER, url]
    workers = [
        subprocess.Popen([*command, f"w{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "filled\n"
        claimed = [json.loads(worker.communicate("go\n", timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    ids = [job for done in claimed for job, token in done]
    assert sorted(ids) == sorted(f"w{i}-{n}" for i in range(4) for n in range(10))
    assert all(token == 1 for done in claimed for _, token in done)
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
async def test_databases_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        SqlJobStore(url)
