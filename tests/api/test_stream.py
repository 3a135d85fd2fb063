"""The status as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from serve_app.api.status import JobUrls
from serve_app.api.stream import PING, follow
from serve_app.errors import DownloadFailed, to_wire
from serve_app.files.http_server import HttpServer
from serve_app.jobs.model import Claim, NewJob, Progress
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import APP, INPUT, MEDIA, SUBMIT, ApiHarness, only_job, submitted
from tests.waiting import PATIENCE_S, until


async def events(stream: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """The objects of a stream, parsed as strictly as the protocol requires."""
    async for line in stream:
        if line and not line.startswith(":"):
            assert line.startswith("data: ")
            yield json.loads(line.removeprefix("data: "))


async def all_events(client: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    async with client.stream("GET", url) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-cache" and reply.headers["x-accel-buffering"] == "no"
        assert reply.headers["x-fal-request-id"] in url
        return [event async for event in events(reply.aiter_lines())]


@pytest.fixture
async def served(harness: ApiHarness) -> AsyncIterator[httpx.AsyncClient]:
    """A client over a socket: the in-process one gets a reply only when it is complete."""
    server = HttpServer(harness.app, "127.0.0.1", 0, drain_s=1)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_S) as client:
        yield client
    await server.stop()


@pytest.mark.parametrize("form", ["/queue" + APP, "/queue" + APP + "/v2/video"])
async def test_one_event_for_each_change(harness: ApiHarness, served: httpx.AsyncClient, form: str) -> None:
    first = (await served.post(SUBMIT, json=INPUT)).json()["request_id"]
    second = (await served.post(SUBMIT, json=INPUT)).json()["request_id"]
    async with served.stream("GET", f"{form}/requests/{second}/status/stream?logs=1") as reply:
        stream = events(reply.aiter_lines())
        event = await anext(stream)
        assert (event["status"], event["queue_position"]) == ("IN_QUEUE", 1)
        lines = event["logs"]

        await harness.store.request_cancel(first)
        event = await anext(stream)
        assert (event["status"], event["queue_position"], event["logs"]) == ("IN_QUEUE", 0, [])

        (claim,) = await harness.store.claim("runner", 60.0, 1)
        await harness.store.report(claim.lease, Progress("decode", 24, 48), ["one"])
        event = await anext(stream)
        assert event["status"] == "IN_PROGRESS" and "queue_position" not in event
        lines += event["logs"]

        await harness.store.report(claim.lease, Progress("decode", 48, 48), ["two", "three"])
        event = await anext(stream)
        assert [line["message"] for line in event["logs"]] == ["two", "three"]
        lines += event["logs"]

        await harness.store.report(claim.lease, Progress("decode", 48, 48, 6.0, 0.0))
        event = await anext(stream)  # without a log line
        assert (event["progress"]["frames_per_second"], event["logs"]) == (6.0, [])

        await harness.store.complete(claim.lease, JobResult(MEDIA).as_json())
        event = await anext(stream)
        lines += event["logs"]
        assert [rest async for rest in stream] == []
    status = (await served.get(f"{form}/requests/{second}/status?logs=1")).json()
    # As the JS client combines them: the last event, with the lines of all.
    assert event | {"logs": lines} == status
    assert {"one", "two", "three"} <= {line["message"] for line in lines}


async def test_no_logs_unless_asked_for(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        await store.report(claim.lease, Progress("decode", 1, 1), ["a line"])
        return await store.complete(claim.lease, JobResult(MEDIA).as_json())

    async with harness.client() as client:
        base = await submitted(client)
        async with harness.runner(work):
            got = await all_events(client, base + "/status/stream")
    assert got[-1]["status"] == "COMPLETED" and all(event["logs"] is None for event in got)


async def test_a_finished_job_is_one_event(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.fail(claim.lease, to_wire(DownloadFailed("the server answered 404")))

    async with harness.client() as client:
        base = await submitted(client)
        async with harness.runner(work):
            await all_events(client, base + "/status/stream")
        (event,) = await all_events(client, base + "/status/stream?logs=true")
        assert event == (await client.get(base + "/status?logs=true")).json()
    assert event["error_type"] == "file_download_error" and event["logs"]


async def test_cancelling_ends_the_stream(harness: ApiHarness, served: httpx.AsyncClient) -> None:
    base = await submitted(served)
    async with served.stream("GET", base + "/status/stream") as reply:
        stream = events(reply.aiter_lines())
        assert (await anext(stream))["status"] == "IN_QUEUE"
        assert (await served.put(base + "/cancel")).status_code == 202
        (event,) = [event async for event in stream]
    assert (event["status"], event["error_type"]) == ("COMPLETED", "client_cancelled")


class Connection:
    """A client's connection, as an ASGI application sees it."""

    def __init__(self) -> None:
        self.disconnected = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    def request(self) -> Request:
        scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": [], "state": {}}
        return Request(scope, self.receive)


async def test_heartbeats_are_comments_until_the_client_disconnects(harness: ApiHarness) -> None:
    connection = Connection()
    request = connection.request()
    job = await harness.store.insert(NewJob("a", {}))
    stream = follow(harness.store, job, JobUrls(request, None), False, request, poll_s=0.001, ping_s=0.002)
    got = [await anext(stream) for _ in range(4)]
    assert got[0].startswith(b"data: {") and got[1:] == [PING] * 3
    connection.disconnected.set()
    assert [rest async for rest in stream if rest != PING] == []


async def test_a_deleted_job_ends_the_stream(harness: ApiHarness) -> None:
    request = Connection().request()
    job = await harness.store.insert(NewJob("a", {}))
    stream = follow(harness.store, job, JobUrls(request, None), False, request, poll_s=0.001)
    assert (await anext(stream)).startswith(b"data: ")
    await harness.store.request_cancel("a")
    await harness.store.delete(["a"])
    assert [rest async for rest in stream] == []


async def test_a_client_that_disconnects_leaves_no_task_behind(
    harness: ApiHarness, served: httpx.AsyncClient
) -> None:
    base = await submitted(served)
    before = asyncio.all_tasks()
    async with served.stream("GET", base + "/status/stream") as reply:
        await anext(reply.aiter_lines())
        following = asyncio.all_tasks() - before
        assert following
    await until(lambda: following.isdisjoint(asyncio.all_tasks()))
    assert not (await only_job(harness.store)).state.terminal
