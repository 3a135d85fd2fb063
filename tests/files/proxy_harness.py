"""A reverse proxy on loopback in front of a real server."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from serve_app.files.http_server import HttpServer
from serve_app.files.reverse_proxy import ReverseProxy
from serve_app.local.certs import CertFiles
from serve_app.settings import TlsSettings
from tests.waiting import PATIENCE_S

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]


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


@pytest.fixture(name="upstream")
def upstream_fixture() -> Upstream:
    return Upstream()


@pytest_asyncio.fixture(name="start_proxy")
async def start_proxy_fixture() -> AsyncIterator[StartProxy]:
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
