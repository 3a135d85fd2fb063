"""The reverse proxy when a client disconnects, or an upstream is slow, fails or cannot be reached."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.local.profile import free_port
from tests.files.proxy_harness import StartProxy, Upstream
from tests.waiting import until

WAITING = 150  # more than any pool keeps by default


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_disconnect_is_relayed_at_once(
    start_proxy: StartProxy, upstream: Upstream, method: str
) -> None:
    client = await start_proxy(upstream.app())
    request = asyncio.create_task(client.request(method, "/wait", content=b"x" if method == "POST" else None))
    await until(lambda: upstream.arrived == 1)
    request.cancel()
    await until(lambda: upstream.left == 1)


async def test_a_disconnect_during_the_body_is_relayed(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(b"POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf")
    await until(lambda: upstream.arrived == 1)
    writer.close()
    await until(lambda: upstream.left == 1)


async def test_a_disconnect_during_events_is_relayed(start_proxy: StartProxy) -> None:
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    client = await start_proxy(app)
    async with client.stream("GET", "/events") as reply:
        assert await anext(reply.aiter_text()) == ": ping\n\n"
    await until(left.is_set)


async def test_waiting_requests_do_not_delay_others(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    waiting = [asyncio.create_task(client.post("/wait", json={})) for _ in range(WAITING)]
    await until(lambda: upstream.arrived == WAITING)
    assert (await client.get("/status")).status_code == 418
    for request in waiting:
        request.cancel()
    await until(lambda: upstream.left == WAITING)


async def test_a_reply_before_the_end_of_the_body(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for _ in range(3):
        reply = await client.post("/refuse", content=b"x" * (8 << 20))
        assert (reply.status_code, reply.json()) == (413, {"detail": "too large"})


async def test_an_unreachable_upstream(start_proxy: StartProxy) -> None:
    client = await start_proxy(f"http://127.0.0.1:{free_port()}")
    ids = set()
    for method in ("GET", "POST"):
        reply = await client.request(method, "/queue/x", headers={"Host": "queue.fal.run"})
        assert reply.status_code == 503
        assert reply.json()["error_type"] == reply.headers["x-fal-error-type"] == "runner_connection_refused"
        ids.add(reply.headers["x-fal-request-id"])
    assert len(ids) == 2
    assert (await client.get("/files/x")).text == "files"


@pytest.mark.parametrize("reply_bytes", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_an_upstream_that_fails_before_its_reply(start_proxy: StartProxy, reply_bytes: bytes) -> None:
    async with fixed_reply(reply_bytes) as url:
        reply = await (await start_proxy(url)).post("/x", content=b"body")
        assert (reply.status_code, "detail" in reply.json()) == (503, True)


async def test_an_upstream_that_fails_during_its_reply(start_proxy: StartProxy) -> None:
    """A truncated reply must not look complete."""
    async with fixed_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n") as url:
        client = await start_proxy(url)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/x")


async def test_invalid_http_is_refused(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    with socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(raw, b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert b" 400 " in await loop.sock_recv(raw, 1000)
    assert (await client.get("/x")).status_code == 418


class fixed_reply:
    """A server that replies with `reply_bytes` to any request, and closes the connection."""

    def __init__(self, reply_bytes: bytes) -> None:
        self._reply_bytes = reply_bytes

    async def __aenter__(self) -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._reply_bytes)
            await writer.drain()
            writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
