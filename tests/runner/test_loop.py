"""The runner's promises around leases, on a real job table and real files. No stage is reached: the source of
each job is an address that never answers, or that refuses.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from serve_app.artifacts.store import Artifacts
from serve_app.database.migrate import migrate
from serve_app.database.tables import jobs
from serve_app.jobs.model import Claim, Job, JobState, NewJob
from serve_app.jobs.request import JobRequest
from serve_app.local.profile import free_port
from serve_app.runner.loop import RunnerLoop
from tests.runner.harness import SIGNER, RunnerHarness, files
from tests.waiting import PATIENCE_S, until


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


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[RunnerHarness]:
    made = RunnerHarness(tmp_path)
    migrate(made.settings.database_url)
    await made.store.open()
    yield made
    await made.store.close()


async def test_a_failed_job_leaves_its_error_and_nothing_else(harness: RunnerHarness) -> None:
    runner = harness.runner()
    await harness.submit(f"http://127.0.0.1:{free_port()}/clip.mp4")
    job = await harness.until(lambda job: job.state.terminal)
    await runner.stop()
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error.status, job.error.body["detail"][0]["type"]) == (422, "file_download_error")
    await until(lambda: files(harness) == [])


async def test_the_end_is_written_before_files_are_deleted(harness: RunnerHarness) -> None:
    """Otherwise a job whose runner dies in between would be computed again, without its pieces."""
    may_delete = threading.Event()

    class Waiting(Artifacts):
        def delete_prefix(self, prefix: str) -> None:
            assert may_delete.wait(PATIENCE_S)
            super().delete_prefix(prefix)

    harness.artifacts = Waiting(harness.settings.artifacts_url)
    runner = harness.runner()
    await harness.submit("data:video/mp4;base64,AAAA")
    job = await harness.until(lambda job: job.state.terminal)
    assert job.state == JobState.FAILED
    assert files(harness) == ["work/job/source"]
    may_delete.set()
    await until(lambda: files(harness) == [])
    await runner.stop()


async def test_cancel_ends_a_running_job(harness: RunnerHarness, silent_url: str) -> None:
    runner = harness.runner()
    await harness.submit(silent_url)
    await harness.until(lambda job: job.progress.stage == "fetching")
    await harness.store.request_cancel("job")
    job = await harness.until(lambda job: True)
    assert job.state == JobState.CANCELLED  # at once, whatever the runner does
    runner.cancel("job")
    await harness.until(lambda job: job.owner is None)  # cleaned up
    await until(lambda: files(harness) == [])
    await runner.stop()
    assert (await harness.until(lambda job: True)).state == JobState.CANCELLED


async def test_a_lost_hint_only_delays_the_clean_up(harness: RunnerHarness, silent_url: str) -> None:
    runner = harness.runner()
    await harness.submit(silent_url)
    await harness.until(lambda job: job.state == JobState.RUNNING)
    await harness.store.request_cancel("job")
    await harness.until(lambda job: job.owner is None)
    await until(lambda: files(harness) == [])
    await runner.stop()


async def test_the_log_tells_what_happened(harness: RunnerHarness) -> None:
    runner = harness.runner()
    await harness.submit("data:video/mp4;base64,AAAA")
    await harness.until(lambda job: job.state.terminal)
    await runner.stop()
    log = await harness.log()
    assert log[0] == "queued"
    assert any(line.startswith("downloaded 3 bytes in ") for line in log)
    assert [event.level for event in await harness.store.events("job")][-1] == "ERROR"


async def test_an_upload_is_linked_and_not_fetched(harness: RunnerHarness) -> None:
    """Its host does not exist; what fails is the next step, which has no decoder here."""
    runner = harness.runner()
    put(harness, "uploads/0000000000-ab/clip.mp4")
    await harness.submit("https://nowhere.invalid" + SIGNER.file_path("uploads/0000000000-ab/clip.mp4"))
    await harness.until(lambda job: job.state.terminal)
    assert "the source is a file of this service: 6 bytes" in await harness.log()
    await until(lambda: files(harness) == ["uploads/0000000000-ab/clip.mp4"])
    await runner.stop()


async def test_an_upload_that_has_expired_is_said_so(harness: RunnerHarness) -> None:
    runner = harness.runner()
    await harness.submit("https://nowhere.invalid" + SIGNER.file_path("uploads/0000000001-ab/clip.mp4"))
    job = await harness.until(lambda job: job.state.terminal)
    await runner.stop()
    assert job.error is not None
    (item,) = job.error.body["detail"]
    assert (item["type"], item["msg"]) == (
        "file_download_error",
        "The file of video_url has expired. Upload it again.",
    )


async def test_a_job_whose_runner_died_is_taken_over(harness: RunnerHarness, silent_url: str) -> None:
    await harness.submit(silent_url)
    assert await harness.store.claim("dead", 0.01, 1)
    runner = harness.runner()
    await harness.until(lambda job: job.token == 2 and job.progress.stage == "fetching")
    assert "taken over from a lost runner (attempt 2)" in await harness.log()
    await runner.stop()


async def test_a_request_that_wants_no_retry_ends_with_its_runner(
    harness: RunnerHarness, silent_url: str
) -> None:
    await harness.submit(silent_url, retry=False)
    assert await harness.store.claim("dead", 0.01, 1)
    runner = harness.runner()
    job = await harness.until(lambda job: job.state.terminal)
    await runner.stop()
    assert job.error is not None
    assert (job.error.status, job.error.body["error_type"]) == (503, "runner_disconnected")


def has_token(token: int, job: Job) -> bool:
    return job.token == token


async def test_a_job_that_was_given_back_has_lost_no_attempt(harness: RunnerHarness, silent_url: str) -> None:
    await harness.submit(silent_url, retry=False)
    for token in (1, 2, 3):
        runner = harness.runner()
        job = await harness.until(partial(has_token, token))
        assert job.state == JobState.RUNNING
        await runner.stop()


async def test_a_job_that_kills_its_runners_fails_in_the_end(tmp_path: Path, silent_url: str) -> None:
    harness = RunnerHarness(tmp_path, max_attempts=2)
    migrate(harness.settings.database_url)
    await harness.store.open()
    await harness.submit(silent_url)
    for _ in range(2):
        while not await harness.store.claim("dies", 0.001, 1):  # noqa: ASYNC110 (a lease has no event)
            await asyncio.sleep(0.002)  # the lease has to run out
    runner = harness.runner()
    job = await harness.until(lambda job: job.state.terminal)
    await runner.stop()
    await harness.store.close()
    assert job.error is not None and job.error.status == 503
    assert "lost 2 times" in job.error.body["detail"]


async def test_a_start_deadline_passes_while_all_places_are_taken(tmp_path: Path, silent_url: str) -> None:
    harness = RunnerHarness(tmp_path, max_jobs=1)
    migrate(harness.settings.database_url)
    await harness.store.open()
    await harness.store.insert(NewJob("first", JobRequest(silent_url).as_json()))
    runner = harness.runner()

    async def is_running() -> bool:
        first = await harness.store.get("first")
        return first is not None and first.state is JobState.RUNNING

    await until(is_running)
    await harness.submit(silent_url, start_timeout_s=0.2)
    job = await harness.until(lambda job: job.state.terminal)
    assert await is_running()
    await runner.stop()
    await harness.store.close()
    assert job.error is not None and job.error.status == 504
    assert job.error.headers["X-Fal-Request-Timeout-Type"] == "user"


async def test_stopping_gives_the_job_back_at_once(harness: RunnerHarness, silent_url: str) -> None:
    runner = harness.runner()
    await harness.submit(silent_url)
    await harness.until(lambda job: job.state == JobState.RUNNING)
    await runner.stop()
    job = await harness.until(lambda job: True)
    assert (job.state, job.owner) == (JobState.QUEUED, None)
    again = harness.runner()
    assert (await harness.until(lambda job: job.state == JobState.RUNNING)).token == 2
    await again.stop()


async def test_who_lost_the_lease_touches_nothing_of_the_new_holder(
    harness: RunnerHarness, silent_url: str
) -> None:
    runner = harness.runner()
    await harness.submit(silent_url)
    await harness.until(lambda job: job.state == JobState.RUNNING)
    await runner_stops_claiming(runner)
    claims: list[Claim] = []
    while not claims:  # a heartbeat may come between
        async with harness.store._database.writing() as connection:
            await connection.execute(update(jobs).values(expires_at=0.0))
        claims = await harness.store.claim("another", 60.0, 1)
    assert claims[0].lease.token == 2
    theirs = ["outputs/job/2/output.mp4", "work/job/pieces/000000", "work/job/source"]
    for name in theirs:
        put(harness, name)
    put(harness, "outputs/job/1/output.mp4")  # of the first holder, from before
    await until(lambda: not runner._leased)
    assert files(harness) == theirs
    job = await harness.until(lambda job: True)
    assert (job.state, job.owner) == (JobState.RUNNING, "another")
    await runner.stop()


async def runner_stops_claiming(runner: RunnerLoop) -> None:
    runner._stopping = True
    runner.wake()
    await asyncio.wait([runner._loop])


def put(harness: RunnerHarness, name: str) -> None:
    path = harness.artifacts.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"theirs")


async def test_what_an_earlier_holder_put_out_is_removed(harness: RunnerHarness, silent_url: str) -> None:
    await harness.submit(silent_url)
    assert await harness.store.claim("dead", 0.01, 1)
    put(harness, "outputs/job/1/output.mp4")
    runner = harness.runner()
    await harness.until(lambda job: job.token == 2 and job.progress.stage == "fetching")
    assert not (harness.artifacts.root / "outputs").exists()
    await runner.stop()
