"""A webhook receiver on loopback with configurable faults, and the documented verification of signatures."""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.waiting import PATIENCE_S


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


def status(code: int, *headers: str) -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([f"HTTP/1.1 {code} X", *headers, "Content-Length: 0", "", ""]).encode())

    return reply


async def close_without_reply(writer: asyncio.StreamWriter) -> None:
    """Closes the connection without a reply."""


async def close_in_the_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")


async def hang(writer: asyncio.StreamWriter) -> None:
    """Sends no reply until the sender gives up."""
    await asyncio.Event().wait()


async def reply_endlessly(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        await writer.drain()


@dataclass
class Receiver:
    """Sends `replies` in turn, then `always`."""

    replies: list[Reply] = field(default_factory=list)
    always: Reply = field(default_factory=lambda: status(200))
    received: list[Received] = field(default_factory=list)
    url: str = ""
    open: int = 0
    max_open_seen: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for(self, count: int) -> list[Received]:
        """The requests received, once there are at least `count`."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.max_open_seen = max(self.max_open_seen, self.open)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._read_request(reader)
            reply = self.replies.pop(0) if self.replies else self.always
            closed = asyncio.create_task(reader.read())  # ends when the sender closes the connection
            replying = asyncio.create_task(reply(writer))
            await asyncio.wait([closed, replying], return_when=asyncio.FIRST_COMPLETED)
            for task in (closed, replying):
                task.cancel()
            await asyncio.gather(closed, replying, return_exceptions=True)
            await writer.drain()
        self.open -= 1
        writer.close()

    async def _read_request(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        assert method == "POST"
        headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._news:
            self.received.append(Received(path, headers, body))
            self._news.notify_all()


@asynccontextmanager
async def receiver(*replies: Reply, always: Reply | None = None) -> AsyncIterator[Receiver]:
    it = Receiver(list(replies), always or status(200))
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await it.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def verifies(message: Received, jwks: dict[str, Any], now: float) -> bool:
    """The documented verification: recent, and signed by one of the published keys."""
    headers = message.headers
    timestamp = headers["x-fal-webhook-timestamp"]
    if abs(now - int(timestamp)) > 300:
        return False
    parts = [
        headers["x-fal-webhook-request-id"],
        headers["x-fal-webhook-user-id"],
        timestamp,
        hashlib.sha256(message.body).hexdigest(),
    ]
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    for key in jwks["keys"]:
        public = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(key["x"]))
        with suppress(InvalidSignature):
            public.verify(signature, "\n".join(parts).encode())
            return True
    return False
