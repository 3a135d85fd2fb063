"""Waiting for a job: the limit, cancellation, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json

import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.files.http_server import HttpServer
from serve_app.jobs.model import Claim, JobState
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import IngressSettings
from tests.api.harness import INPUT, PATH, ApiHarness, only_job
from tests.waiting import until


async def test_a_job_cancelled_from_elsewhere(harness: ApiHarness) -> None:
    async with harness.client() as client:
        waiting = asyncio.create_task(client.post(PATH, json=INPUT))
        await harness.notifier.woken.wait()
        await harness.store.request_cancel((await only_job(harness.store)).id)
        reply = await waiting
    assert reply.status_code == 499
    assert reply.json() == {"detail": "Request was cancelled", "error_type": "client_cancelled"}


async def test_only_so_many_may_wait(store: SqlJobStore, artifacts: Artifacts) -> None:
    harness = ApiHarness(store, artifacts, limits=IngressSettings(max_waiting=2))
    async with harness.client() as client:
        waiting = [asyncio.create_task(client.post(PATH, json=INPUT)) for _ in range(2)]

        async def both_are_queued() -> bool:
            return (await store.counts())[JobState.QUEUED] == 2

        await until(both_are_queued)
        reply = await client.post(PATH, json=INPUT)
        assert reply.status_code == 429 and reply.json()["type"] == "concurrent_requests_limit"
        assert reply.headers["x-fal-needs-retry"] == "1"
        assert (await client.get("/health")).status_code == 200
        async with harness.runner():
            harness.notifier.wake()
            assert [reply.status_code for reply in await asyncio.gather(*waiting)] == [200, 200]
            assert (await client.post(PATH, json=INPUT)).status_code == 200
    assert (await store.counts())[JobState.COMPLETED] == 3


async def test_a_cancelled_handler_cancels_its_job(harness: ApiHarness) -> None:
    """Serve cancels the handler when the client disconnects."""

    async def cancelled() -> bool:
        return (await only_job(harness.store)).state is JobState.CANCELLED

    async with harness.client() as client:
        waiting = asyncio.create_task(client.post(PATH, json=INPUT))
        await harness.notifier.woken.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await until(cancelled)
    assert harness.notifier.cancelled == [(await only_job(harness.store)).id]


async def test_cancelling_at_any_step_leaves_no_queued_job(harness: ApiHarness) -> None:
    async with harness.client() as client:
        for steps in range(40):
            task = asyncio.create_task(client.post(PATH, json=INPUT))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def none_queued() -> bool:
        counts = await harness.store.counts()
        return counts[JobState.QUEUED] == 0

    await until(none_queued)


async def test_a_client_that_disconnects(harness: ApiHarness) -> None:
    """On a plain ASGI server, which does not cancel handlers, with a job that is running."""
    running = asyncio.Event()

    async def work(store: SqlJobStore, claim: Claim) -> None:
        running.set()
        while (await store.heartbeat(claim.lease, 60.0)).held:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await store.cleaned(claim.lease)

    async def cancelled() -> bool:
        return (await only_job(harness.store)).state is JobState.CANCELLED

    server = HttpServer(harness.app, "127.0.0.1", 0, drain_s=1)
    await server.start()
    async with harness.runner(work):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = json.dumps(INPUT).encode()
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await running.wait()
        writer.transport.abort()
        await until(cancelled)
    await server.stop()
