"""The job table on both databases, under concurrent tasks and processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from sqlalchemy import text

from serve_app.jobs.model import CancelOutcome, JobState, NewJob
from serve_app.jobs.sql.store import SqlJobStore
from tests.jobs.steps import LEASE_S, log_lines, started, submit


def job_with_key(name: str, key: str = "k", account: str | None = None) -> NewJob:
    return NewJob(name, {}, account=account, idempotency_key=key, fingerprint=name)


async def test_an_idempotency_key_identifies_one_job_per_account(store: SqlJobStore) -> None:
    first = await store.insert(job_with_key("one"))
    again = await store.insert(job_with_key("two"))
    assert again == first and again.fingerprint == "one"
    others = [
        job_with_key("three", key="other"),
        job_with_key("four", account="me"),
        job_with_key("five", account="you"),
    ]
    assert [(await store.insert(job)).id for job in others] == ["three", "four", "five"]
    assert (await store.insert(job_with_key("six", account="me"))).id == "four"
    assert await log_lines(store, "one") == [("INFO", "queued")]
    await store.request_cancel("one")
    assert (await store.insert(job_with_key("seven"))).state is JobState.CANCELLED
    assert await store.waiting() == 3


async def test_concurrent_inserts_with_one_key_create_one_job(store: SqlJobStore) -> None:
    for account in (None, "me"):
        jobs = await asyncio.gather(
            *(store.insert(job_with_key(f"{account}-{i}", "k", account)) for i in range(8))
        )
        assert len({job.id for job in jobs}) == 1
    assert await store.waiting() == 2


async def test_concurrent_tasks_never_share_a_claim(store: SqlJobStore) -> None:
    names = [f"job-{i}" for i in range(40)]
    await submit(store, *names)

    async def work(owner: str) -> list[str]:
        done: list[str] = []
        while claims := await store.claim(owner, LEASE_S, 3):
            assert len(claims) <= 3
            done += [claim.job.id for claim in claims]
        return done

    done = await asyncio.gather(*(work(f"runner-{i}") for i in range(8)))
    assert sorted(name for share in done for name in share) == sorted(names)


async def test_concurrent_cancel_and_complete_have_one_winner(store: SqlJobStore) -> None:
    for i in range(8):
        claim = await started(store, f"job-{i}")
        completed, cancelled = await asyncio.gather(
            store.complete(claim.lease, {}), store.request_cancel(f"job-{i}")
        )
        assert completed is (cancelled is CancelOutcome.ALREADY_TERMINAL)
        assert len(await log_lines(store, f"job-{i}")) == 2


async def test_concurrent_requests_take_a_result_once(store: SqlJobStore) -> None:
    await store.complete((await started(store, "one")).lease, {})
    assert sorted(await asyncio.gather(*(store.take_result("one") for _ in range(8)))) == [False] * 7 + [True]


async def test_a_cancelled_insert_is_complete_or_absent(store: SqlJobStore) -> None:
    """A client that disconnects cancels its handler at any point: each job must be complete or absent."""
    for steps in range(0, 600, 20):
        task = asyncio.create_task(submit(store, f"job-{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await submit(store, "last")
    inputs = {claim.job.id: claim.input for claim in await store.claim("a", LEASE_S, 100)}
    assert "last" in inputs
    for name, given in inputs.items():
        assert given == {"video_url": f"http://host/{name}"}
        assert await log_lines(store, name) == [("INFO", "queued")]


WORKER = """
import asyncio, json, sys
from serve_app.database.migrate import migrate
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.jobs.model import NewJob

async def main(url, owner):
    print("up", flush=True)
    sys.stdin.readline()
    assert migrate(url)
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


def test_processes_started_at_once_share_one_table(empty_database_url: str) -> None:
    """They race to create the tables (and the file and its WAL mode), then to insert, then to claim."""
    command = [sys.executable, "-c", WORKER, empty_database_url]
    workers = [
        subprocess.Popen([*command, f"w{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    try:
        for word in ("up\n", "filled\n"):
            for worker in workers:
                assert worker.stdout is not None and worker.stdout.readline() == word
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
        claimed = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    ids = [job for done in claimed for job, token in done]
    assert sorted(ids) == sorted(f"w{i}-{n}" for i in range(4) for n in range(10))
    assert all(token == 1 for done in claimed for _, token in done)
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]


async def test_broken_idle_connections_are_replaced(postgres_url: str) -> None:
    """As after a restart of the server: neither the next read nor the next write fails."""
    store, other = SqlJobStore(postgres_url), SqlJobStore(postgres_url)
    await submit(store, "one")
    await asyncio.gather(*(store.get("one") for _ in range(8)))
    cut = await other._database.read(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )
    assert len(cut) >= 2
    assert await store.get("one") is not None
    await submit(store, "two")
    assert await store.waiting() == 2
    await store.close()
    await other.close()
