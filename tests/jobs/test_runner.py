"""The runner's promises around leases, on a real job table and real files. No stage is reached: the source of
each job is an address that never answers, or that refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from serve_app.jobs.request import JobRequest
from serve_app.jobs.runner import Runner
from serve_app.jobs.sql import SqlJobStore
from serve_app.jobs.store import Job, JobState, NewJob
from serve_app.jobs.tables import jobs
from serve_app.local import free_port
from serve_app.settings import RunnerSettings, Settings
from serve_app.storage.artifacts import Artifacts


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """A server that accepts and says nothing."""
    over = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/clip.mp4"
    over.set()
    server.close()
    await server.wait_closed()


class Desk:
    """A job table, its artifacts, and runners on them."""

    def __init__(self, directory: Path) -> None:
        self.settings = Settings(data_dir=directory, runner=RunnerSettings(poll_s=0.02))
        self.store = SqlJobStore(self.settings.database_url)
        self.artifacts = Artifacts(self.settings.artifacts_dir)

    def runner(self) -> Runner:
        stages: Any = None  # never reached
        return Runner(self.settings, self.store, stages, self.artifacts)

    async def submit(self, url: str) -> None:
        await self.store.insert(NewJob("job", JobRequest(url).as_json()))

    async def until(self, wanted: Callable[[Job], bool]) -> Job:
        async with asyncio.timeout(20):
            while True:
                job = await self.store.get("job")
                assert job is not None
                if wanted(job):
                    return job
                await asyncio.sleep(0.01)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    await made.store.open()
    yield made
    await made.store.close()


def files(desk: Desk) -> list[str]:
    root = desk.artifacts.root
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


async def test_a_failed_job_leaves_its_error_and_nothing_else(it: Desk) -> None:
    runner = it.runner()
    await it.submit(f"http://127.0.0.1:{free_port()}/clip.mp4")
    job = await it.until(lambda job: job.state.terminal)
    await runner.stop()
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error.status, job.error.body["detail"][0]["type"]) == (422, "file_download_error")
    assert files(it) == []


async def test_cancel_ends_a_running_job(it: Desk, silent_url: str) -> None:
    runner = it.runner()
    await it.submit(silent_url)
    await it.until(lambda job: job.state == JobState.RUNNING)
    await it.store.request_cancel("job")
    runner.cancel("job")
    job = await it.until(lambda job: job.state.terminal)
    await runner.stop()
    assert job.state == JobState.CANCELLED
    assert files(it) == []


async def test_a_lost_hint_only_delays_the_cancel(it: Desk, silent_url: str) -> None:
    runner = it.runner()
    await it.submit(silent_url)
    await it.until(lambda job: job.state == JobState.RUNNING)
    await it.store.request_cancel("job")
    assert (await it.until(lambda job: job.state.terminal)).state == JobState.CANCELLED
    await runner.stop()


async def test_stopping_gives_the_job_back_at_once(it: Desk, silent_url: str) -> None:
    runner = it.runner()
    await it.submit(silent_url)
    await it.until(lambda job: job.state == JobState.RUNNING)
    await runner.stop()
    job = await it.until(lambda job: True)
    assert (job.state, job.owner) == (JobState.QUEUED, None)
    again = it.runner()
    assert (await it.until(lambda job: job.state == JobState.RUNNING)).token == 2
    await again.stop()


async def test_who_lost_the_lease_touches_nothing_of_the_new_holder(it: Desk, silent_url: str) -> None:
    runner = it.runner()
    await it.submit(silent_url)
    await it.until(lambda job: job.state == JobState.RUNNING)
    await runner_stops_claiming(runner)
    claims = []
    while not claims:  # a heartbeat may come between
        async with it.store._engine.begin() as connection:
            await connection.execute(update(jobs).values(expires_at=0.0))
        claims = await it.store.claim("another", 60.0, 1)
    assert claims[0].lease.token == 2
    theirs = ["outputs/job/2/output.mp4", "work/job/pieces/000000", "work/job/source"]
    for name in theirs:
        put(it, name)
    put(it, "outputs/job/1/output.mp4")  # of the first holder, from before
    await asyncio.wait(runner._ending, timeout=20)
    assert files(it) == theirs
    job = await it.until(lambda job: True)
    assert (job.state, job.owner) == (JobState.RUNNING, "another")
    await runner.stop()


async def runner_stops_claiming(runner: Runner) -> None:
    runner._stopping = True
    runner.wake()
    await asyncio.wait([runner._loop])


def put(desk: Desk, name: str) -> None:
    path = desk.artifacts.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"theirs")


async def test_what_an_earlier_holder_put_out_is_removed(it: Desk, silent_url: str) -> None:
    await it.submit(silent_url)
    assert await it.store.claim("dead", 0.01, 1)
    put(it, "outputs/job/1/output.mp4")
    runner = it.runner()
    await it.until(lambda job: job.token == 2 and job.progress.stage == "fetching")
    assert not (it.artifacts.root / "outputs").exists()
    await runner.stop()
