"""Large bodies are streamed through the reverse proxy in both directions, not held in memory."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from serve_app.files.http_server import HttpServer
from tests.waiting import PATIENCE_S

MIB = 1 << 20
SIZE = 300
BLOCK = os.urandom(MIB)

PROXY = """
import asyncio, sys
from starlette.responses import PlainTextResponse
from serve_app.files.reverse_proxy import ReverseProxy
from serve_app.files.http_server import HttpServer

async def main():
    proxy_server = HttpServer(ReverseProxy(PlainTextResponse("files"), sys.argv[1]), "127.0.0.1", 0, drain_s=1)
    await proxy_server.start()
    print(proxy_server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await proxy_server.stop()

asyncio.run(main())
"""


class Blocks:
    """A large body, and the number of its blocks that were taken."""

    taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(SIZE):
            self.taken += 1
            yield BLOCK

    async def until_stalled(self) -> None:
        """Returns when no block is taken for a while, as all buffers on the way are full."""
        async with asyncio.timeout(PATIENCE_S):
            seen = -1
            while self.taken != seen or not seen:
                seen = self.taken
                await asyncio.sleep(0.3)
        assert seen < SIZE


class Upstream:
    """Reads a body only once `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.given = Blocks()

    def app(self) -> Starlette:
        routes = [Route("/in", self.take, methods=["POST"]), Route("/out", self.give)]
        return Starlette(routes=[*routes, Route("/", PlainTextResponse("warm"))])

    async def take(self, request: Request) -> Response:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            await self.open.wait()
        return JSONResponse(size)

    async def give(self, request: Request) -> Response:
        return StreamingResponse(self.given)


@pytest.mark.long
async def test_large_bodies_take_no_memory() -> None:
    """300 MB to a server that pauses reading, and 300 MB to a client that pauses reading."""
    upstream = Upstream()
    server = HttpServer(upstream.app(), "127.0.0.1", 0, drain_s=1)
    await server.start()
    process = subprocess.Popen(  # noqa: ASYNC220 (nothing waits for it here)
        [sys.executable, "-c", PROXY, f"http://127.0.0.1:{server.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None

    def peak() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(peak_kb) >> 10

    sent = Blocks()
    try:
        port = int(await asyncio.to_thread(process.stdout.readline))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S
        ) as client:
            assert (await client.get("/")).text == "warm"
            before = peak()
            upload = asyncio.create_task(client.post("/in", content=sent))
            await sent.until_stalled()
            upstream.open.set()
            assert (await upload).json() == SIZE * MIB
            async with client.stream("GET", "/out") as reply:
                chunks = reply.aiter_raw()
                size = len(await anext(chunks))
                await upstream.given.until_stalled()
                async for chunk in chunks:
                    size += len(chunk)
            assert size == SIZE * MIB
            assert peak() - before < 64
    finally:
        process.communicate("")
        await server.stop()
    assert process.returncode == 0
