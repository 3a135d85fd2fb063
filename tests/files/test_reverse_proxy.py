"""The reverse proxy on loopback with a real upstream: routing, relaying, disconnects and errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.middleware.host_prefix import ForwardedScheme
from serve_app.files.http_server import HttpServer
from serve_app.files.reverse_proxy import ReverseProxy
from serve_app.local.certs import CertFiles, make_certificates
from serve_app.local.profile import free_port
from serve_app.settings import TlsSettings
from tests.waiting import PATIENCE_S, until

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
WAITING = 150  # more than any pool keeps by default

files = PlainTextResponse("files")


@dataclass
class Upstream:
    """The upstream application. `arrived` and `left` count the requests of routes that wait."""

    step: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    arrived: int = 0
    left: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/events", self.events),
                Route("/wait", self.wait, methods=METHODS),
                Route("/refuse", self.refuse, methods=METHODS),
                Route("/moved", self.moved),
                Route("/{path:path}", self.echo, methods=METHODS),
            ]
        )

    async def echo(self, request: Request) -> Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
        scope = request.scope
        seen = {
            "method": request.method,
            "scheme": scope["scheme"],
            "target": [scope["raw_path"].decode(), scope["query_string"].decode()],
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "body": [size, digest.hexdigest()],
        }
        reply = JSONResponse(seen, 418)
        for value in ("a=1", "b=2"):
            reply.headers.append("Set-Cookie", value)
        reply.headers["X-Fal-Request-Id"] = "of the upstream"
        return reply

    async def events(self, request: Request) -> Response:
        async def steps() -> AsyncIterator[str]:
            while text := await self.step.get():
                yield f"data: {text}\n\n"

        return StreamingResponse(steps(), media_type="text/event-stream")

    async def wait(self, request: Request) -> Response:
        """Waits until the client disconnects, whether it has sent its body or not."""
        self.arrived += 1
        try:
            async for _ in request.stream():
                pass
            while (await request.receive())["type"] != "http.disconnect":
                pass
        except ClientDisconnect:
            pass
        self.left += 1
        return Response()

    async def refuse(self, request: Request) -> Response:
        """Replies before the body is read."""
        return JSONResponse({"detail": "too large"}, 413)

    async def moved(self, request: Request) -> Response:
        return Response(status_code=307, headers={"Location": "https://elsewhere.example/"})


StartProxy = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest_asyncio.fixture
async def start_proxy() -> AsyncIterator[StartProxy]:
    """A function that starts a reverse proxy for an upstream application or URL and returns a client for it."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def start(target: ASGIApp | str, certs: CertFiles | None = None) -> httpx.AsyncClient:
        if not isinstance(target, str):
            server = HttpServer(target, "127.0.0.1", 0, drain_s=1)
            await server.start()
            closing.append(server.stop)
            target = f"http://127.0.0.1:{server.port}"
        proxy = ReverseProxy(files, target)
        closing.append(proxy.close)
        tls = TlsSettings(certificate=certs.certificate, key=certs.key) if certs else None
        proxy_server = HttpServer(proxy, "127.0.0.1", 0, tls, drain_s=1)
        await proxy_server.start()
        closing.append(proxy_server.stop)
        client = httpx.AsyncClient(
            base_url=f"{'https' if tls else 'http'}://127.0.0.1:{proxy_server.port}",
            verify=ssl.create_default_context(cafile=certs.ca) if certs else True,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            timeout=PATIENCE_S,
        )
        closing.append(client.aclose)
        return client

    yield start
    for close in reversed(closing):
        await close()


async def test_routing_by_path_and_host(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for host, path, to_files in (
        ("127.0.0.1:8000", "/files/signature/outputs/1/v.mp4", True),
        ("queue.fal.run", "/files/upload", True),
        ("v3.fal.media", "/files/upload", True),
        ("V3.FAL.MEDIA:443", "/anything", True),
        ("v3b.fal.media", "/", True),
        ("fal.media", "/", True),
        ("127.0.0.1:8000", "/filesystem", False),
        ("127.0.0.1:8000", "/queue/files/upload", False),
        ("fal.run", "/fal-ai/birefnet/v2/video", False),
        ("rest.fal.ai", "/storage/upload/initiate", False),
        ("notfal.media", "/", False),
        ("v3.fal.media.example", "/", False),
        ("", "/health", False),
    ):
        reply = await client.get(path, headers={"Host": host})
        if to_files:
            assert (reply.status_code, reply.text) == (200, "files")
        else:
            assert (reply.status_code, reply.json()["target"]) == (418, [path, ""])
            assert ["host", host] in reply.json()["headers"]


async def test_headers_are_relayed_in_both_directions(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    reply = await client.post(
        "/x",
        content=b"body",
        headers=[
            ("Host", "queue.fal.run"),
            ("Authorization", "Key a:b"),
            ("X-Fal-Tag", "one"),
            ("X-Fal-Tag", "two"),
            ("X-Forwarded-Proto", "gopher"),
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "for the proxy_server alone"),
            ("TE", "trailers"),
            ("Expect", "100-continue"),
        ],
    )
    seen = reply.json()["headers"]
    for pair in (["host", "queue.fal.run"], ["authorization", "Key a:b"], ["content-length", "4"]):
        assert seen.count(pair) == 1
    assert [value for name, value in seen if name == "x-fal-tag"] == ["one", "two"]
    assert [value for name, value in seen if name == "x-forwarded-proto"] == ["http"]
    assert not {"x-hop", "te", "expect", "keep-alive"} & {name for name, _ in seen}
    assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert reply.headers["x-fal-request-id"] == "of the upstream"
    assert len(reply.headers.get_list("date")) == len(reply.headers.get_list("server")) == 1
    again = (await client.get("/x", headers={"Cookie": ""})).json()["headers"]
    assert ["cookie", "a=1"] not in again  # the proxy does not share cookies between clients


async def test_the_request_target_is_relayed_unchanged(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for target in ("/a%2Fb/c%20d/?logs=1&x=%26", "/", "//x//", "/a?b?c", "/%C3%A9;v=1"):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        path, _, query = target.partition("?")
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["target"] == [path, query]


async def test_methods_and_bodies(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        for body in (None, b"", b"x" * 1_000_003):
            reply = (await client.request(method, "/x", content=body)).json()
            digest = hashlib.sha256(body or b"").hexdigest()
            assert (reply["method"], reply["body"]) == (method, [len(body or b""), digest])


async def test_a_body_of_unknown_length(start_proxy: StartProxy, upstream: Upstream) -> None:
    async def body() -> AsyncIterator[bytes]:
        for part in (b"one", b"two", b"three"):
            yield part

    client = await start_proxy(upstream.app())
    reply = (await client.post("/x", content=body())).json()
    assert reply["body"] == [11, hashlib.sha256(b"onetwothree").hexdigest()]
    assert ["transfer-encoding", "chunked"] in reply["headers"]


async def test_replies_without_a_body(start_proxy: StartProxy, upstream: Upstream) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=int(scope["path"][1:]))(scope, receive, send)

    client = await start_proxy(app)
    for status in (204, 304):
        reply = await client.get(f"/{status}")
        assert (reply.status_code, reply.content) == (status, b"")
    head = await (await start_proxy(upstream.app())).head("/x")
    assert (head.status_code, head.content) == (418, b"")
    assert int(head.headers["content-length"]) > 100


async def test_no_redirect_is_followed(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    reply = await client.get("/moved")
    assert (reply.status_code, reply.headers["location"]) == (307, "https://elsewhere.example/")


async def test_events_are_not_buffered(start_proxy: StartProxy, upstream: Upstream) -> None:
    """Each event is sent only after the previous one has arrived."""
    client = await start_proxy(upstream.app())
    async with client.stream("GET", "/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        chunks = reply.aiter_text()
        for text in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"):
            upstream.step.put_nowait(text)
            assert await anext(chunks) == f"data: {text}\n\n"
        upstream.step.put_nowait("")
        assert [chunk async for chunk in chunks] == []


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


async def test_the_client_scheme_is_forwarded(
    start_proxy: StartProxy, upstream: Upstream, tmp_path: Path
) -> None:
    certs = CertFiles(tmp_path)
    make_certificates(certs)
    client = await start_proxy(ForwardedScheme(upstream.app()), certs)
    reply = (await client.get("/x")).json()
    assert reply["scheme"] == "https"
    assert ["x-forwarded-proto", "https"] in reply["headers"]


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
