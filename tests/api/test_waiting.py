"""Waiting for a job: places, cancellation, and clients that go away."""

from __future__ import annotations

import asyncio
import json

import pytest

from serve_app.jobs.sql import SqlJobStore
from serve_app.jobs.store import Claim, JobState
from serve_app.storage.artifacts import Artifacts
from serve_app.storage.serving import HttpServer
from tests.api.desk import INPUT, PATH, Bench, only_job, until


async def test_a_job_cancelled_from_elsewhere(bench: Bench) -> None:
    async with bench.client() as client:
        waiting = asyncio.create_task(client.post(PATH, json=INPUT))
        await bench.hints.woken.wait()
        await bench.store.request_cancel((await only_job(bench.store)).id)
        reply = await waiting
    assert reply.status_code == 499
    assert reply.json() == {"detail": "Request was cancelled", "error_type": "client_cancelled"}


async def test_only_so_many_may_wait(store: SqlJobStore, artifacts: Artifacts) -> None:
    bench = Bench(store, artifacts, max_waiting=2)
    async with bench.client() as client:
        waiting = [asyncio.create_task(client.post(PATH, json=INPUT)) for _ in range(2)]

        async def both_are_in() -> bool:
            return (await store.counts())[JobState.QUEUED] == 2

        await until(both_are_in)
        reply = await client.post(PATH, json=INPUT)
        assert reply.status_code == 429 and reply.json()["type"] == "concurrent_requests_limit"
        assert reply.headers["x-fal-needs-retry"] == "1"
        assert (await client.get("/health")).status_code == 200
        async with bench.runner():
            bench.hints.wake()
            assert [reply.status_code for reply in await asyncio.gather(*waiting)] == [200, 200]
            assert (await client.post(PATH, json=INPUT)).status_code == 200
    assert (await store.counts())[JobState.COMPLETED] == 3


async def test_a_cancelled_handler_takes_its_job_along(bench: Bench) -> None:
    """What Serve does when the client has gone, at any moment of the request."""

    async def cancelled() -> bool:
        return (await only_job(bench.store)).state is JobState.CANCELLED

    async with bench.client() as client:
        waiting = asyncio.create_task(client.post(PATH, json=INPUT))
        await bench.hints.woken.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await until(cancelled)
    assert bench.hints.cancelled == [(await only_job(bench.store)).id]


async def test_cancelling_at_any_step_leaves_no_job_alive(bench: Bench) -> None:
    async with bench.client() as client:
        for turns in range(40):
            task = asyncio.create_task(client.post(PATH, json=INPUT))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def none_alive() -> bool:
        counts = await bench.store.counts()
        return counts[JobState.QUEUED] == 0

    await until(none_alive)


async def test_a_client_that_hangs_up(bench: Bench) -> None:
    """On a plain ASGI server, which does not cancel handlers: here the job runs already."""
    running = asyncio.Event()

    async def work(store: SqlJobStore, claim: Claim) -> object:
        running.set()
        while (await store.heartbeat(claim.lease, 60.0)).held:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return await store.cleaned(claim.lease)

    async def cancelled() -> bool:
        return (await only_job(bench.store)).state is JobState.CANCELLED

    server = HttpServer(bench.app, "127.0.0.1", 0, drain_s=1)
    await server.start()
    async with bench.runner(work):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = json.dumps(INPUT).encode()
        writer.write(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        await running.wait()
        writer.transport.abort()
        await until(cancelled)
    await server.stop()
