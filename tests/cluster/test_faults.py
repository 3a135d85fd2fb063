"""Faults: killed replicas and clients that disconnect."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.jobs.model import Job, JobState
from serve_app.jobs.sql.store import SqlJobStore
from tests.cluster.service import JOB_S, MediaServer, Service
from tests.jobs.steps import newest
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

LONG = Clip("long.mp4", frames=72, width=160, height=96, options=X264)


@pytest.fixture(scope="module")
def source(media_server: MediaServer, clips_dir: Path) -> str:
    make(clips_dir / LONG.name, LONG)
    return media_server.url(LONG.name)


@pytest.fixture(scope="module")
def undisturbed(service: Service, source: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return service.download(service.cut_out(source), tmp_path_factory.mktemp("undisturbed")).read_bytes()


async def until(service: Service, wanted: Callable[[Job], bool]) -> Job:
    """Wait until the newest job fulfils a condition, as the job table has it."""
    store = SqlJobStore(f"sqlite+aiosqlite:///{service.data_dir / 'jobs.sqlite'}")
    await store.open()
    deadline = time.monotonic() + JOB_S
    try:
        while time.monotonic() < deadline:
            jobs = await newest(store, 1)
            if jobs and wanted(jobs[0]):
                return jobs[0]
            await asyncio.sleep(0.02)
    finally:
        await store.close()
    raise AssertionError(f"the newest job is {jobs}")


@pytest.mark.parametrize("deployment", ["Segmenter-light", "Decoder", "Encoder"])
async def test_a_killed_replica_does_not_change_the_output(
    service: Service, source: str, undisturbed: bytes, tmp_path: Path, deployment: str
) -> None:
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(service.cut_out(source)))
    thread.start()
    await until(service, lambda job: job.state == JobState.RUNNING and job.progress.frames_done > 0)
    (pid,) = service.replicas(deployment)
    os.kill(pid, signal.SIGKILL)
    thread.join(JOB_S)
    disturbed = service.download(replies[0], tmp_path)
    assert disturbed.read_bytes() == undisturbed
    wait_until(lambda: service.leftovers() == [])


@pytest.mark.parametrize("deployment", ["Decoder", "Encoder"])
async def test_a_killed_media_process_does_not_change_the_output(
    service: Service, source: str, undisturbed: bytes, tmp_path: Path, deployment: str
) -> None:
    """It costs its chunk one try; the replica goes on."""
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(service.cut_out(source)))
    thread.start()
    await until(service, lambda job: job.state == JobState.RUNNING)
    (pid,) = service.replicas(deployment)
    (zygote,) = psutil.Process(pid).children()
    killed = 0
    while not killed and thread.is_alive():
        for process in zygote.children():
            process.kill()
            killed += 1
        await asyncio.sleep(0.002)  # a process that encodes lives for tens of milliseconds
    thread.join(JOB_S)
    assert killed
    assert service.download(replies[0], tmp_path).read_bytes() == undisturbed
    assert service.replicas(deployment) == [pid]
    assert service.leftovers() == []


async def test_a_client_that_goes_away_cancels_its_job(service: Service, source: str) -> None:
    with service.unfinished_run(source):
        await until(service, lambda job: job.state == JobState.RUNNING)
    job = await until(service, lambda job: job.state.terminal)
    assert job.state == JobState.CANCELLED
    await until(service, lambda job: job.owner is None)  # its runner has cleaned up
    wait_until(lambda: service.leftovers() == [])
