"""A raw HTTP server on loopback with configurable replies, also invalid ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serve_app.errors import DownloadFailed, to_wire
from serve_app.fetch.address_guard import GuardedBackend
from serve_app.fetch.fetch import fetch
from serve_app.settings import FetchSettings
from tests.waiting import PATIENCE_S

LIMITS = FetchSettings(
    max_bytes=100_000, connect_s=PATIENCE_S, read_s=PATIENCE_S, total_s=PATIENCE_S, allow_private=True
)
BODY = bytes(range(256)) * 100

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """A raw server: `answer` receives the path and writes the reply."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await answer(head.split()[1].decode(), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, host, port)
    try:
        yield f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


async def complete(path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(head("200 OK", f"Content-Length: {len(BODY)}") + BODY)


async def refused(url: str, out: Path, limits: FetchSettings = LIMITS, **more: GuardedBackend) -> str:
    """The message of the `DownloadFailed` that fetching raises; `out` must not exist afterwards."""
    with pytest.raises(DownloadFailed) as caught:
        await fetch(url, out, limits, **more)
    assert not out.exists()
    assert to_wire(caught.value).body["detail"][0]["loc"] == ["body", "video_url"]
    return str(caught.value)
