"""Asking a service over HTTP, with a progress bar: what `remove` and the demo have in common."""

from __future__ import annotations

import asyncio
import mimetypes
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from threading import Thread
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serve_app.fal import ENDPOINT

QUEUE = "/queue"
POLL_S = 0.3
FRAMES = re.compile(r"(\d+)/(\d+) frames")  # the line of a job's log that tells how far it is
BLOCK = 1 << 20


class RequestFailed(Exception):
    """The service refused or failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. `verify`: whom to trust. `key`: the API key. `local`: it can read from this machine."""

    url: str
    verify: ssl.SSLContext | bool = True
    key: str | None = None
    local: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """For the API alone: files are read and written without a key."""
        return {"Authorization": f"Key {self.key}"} if self.key else {}

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, verify=self.verify, trust_env=False, **options)


def trusted() -> ssl.SSLContext:
    """The public authorities, and this machine's own (SSL_CERT_FILE names a private one)."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def progress(console: Console) -> Progress:
    """Where requests under way show how far they are; a context manager."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames"),
    )
    return Progress(*columns, TimeRemainingColumn(), console=console)


async def cut_out(server: Server, fields: dict[str, Any], label: str, bars: Progress) -> dict[str, Any]:
    """The result of one request, by the queue, with its log and progress on the screen. Raises RequestFailed.

    Whoever gives up (Ctrl-C) cancels the request.
    """
    async with server.client(timeout=60, headers=server.headers) as client:
        try:
            submitted = _json(await client.post(QUEUE + ENDPOINT, json=fields))
            try:
                await _watch(client, submitted["status_url"], label, bars)
            except asyncio.CancelledError:
                await client.put(submitted["cancel_url"])
                raise
            return _json(await client.get(submitted["response_url"]))
        except httpx.TransportError as error:
            raise RequestFailed(f"{server.url} cannot be reached: {error}") from error


async def _watch(client: httpx.AsyncClient, status_url: str, label: str, bars: Progress) -> None:
    """Return when the request is over; meanwhile show its log, and how far it is."""
    task = bars.add_task(label, total=None)
    told, total = 0, None
    while True:
        status = _json(await client.get(status_url, params={"logs": 1}))
        for line in status["logs"][told:]:
            if frames := FRAMES.match(line["message"]):
                total = int(frames[2])
                bars.update(task, completed=int(frames[1]), total=total)
            else:
                bars.console.print(f"  {label}: {line['message']}")
        told = len(status["logs"])
        if status["status"] == "COMPLETED":
            bars.update(task, completed=total)
            return
        await asyncio.sleep(POLL_S)


async def download(server: Server, url: str, path: Path) -> None:
    """Stream a finished file to `path`; a broken transfer leaves nothing there."""
    part = path.with_name(f".{path.name}.part")
    try:
        async with server.client(timeout=60) as client, client.stream("GET", url) as reply:
            reply.raise_for_status()
            with part.open("wb") as file:
                async for piece in reply.aiter_bytes():
                    file.write(piece)
        part.replace(path)
    except httpx.HTTPError as error:
        raise RequestFailed(f"{url} could not be downloaded: {error}") from error
    finally:
        part.unlink(missing_ok=True)


async def upload(server: Server, path: Path) -> str:
    """A URL of a local file for a service that cannot reach this machine: the file goes to its storage."""
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    announced = {"content_type": kind, "file_name": path.name}
    headers = {"Content-Type": kind, "Content-Length": str(path.stat().st_size)}
    try:
        async with server.client(timeout=60, headers=server.headers) as client:
            target = _json(await client.post("/rest/storage/upload/initiate", json=announced))
        async with server.client(timeout=httpx.Timeout(60, read=None)) as client:
            reply = await client.put(target["upload_url"], content=_blocks(path), headers=headers)
    except httpx.TransportError as error:
        raise RequestFailed(f"{server.url} cannot be reached: {error}") from error
    if not reply.is_success:
        raise RequestFailed(_message(reply))
    return str(target["file_url"])


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block


@contextmanager
def served(path: Path) -> Iterator[str]:
    """A URL of a local file of any size, for a service on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            with path.open("rb") as file:
                copyfileobj(file, self.wfile)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/source"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(reply: httpx.Response) -> dict[str, Any]:
    """The object in a good reply. Raises RequestFailed with the service's own words."""
    if not reply.is_success:
        raise RequestFailed(_message(reply))
    found: dict[str, Any] = reply.json()
    return found


def _message(reply: httpx.Response) -> str:
    """What went wrong, in the service's words."""
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code}: {reply.text[:300]}"
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in detail)
