"""HTTP client with a progress bar, shared by `remove` and the demo."""

from __future__ import annotations

import asyncio
import mimetypes
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from threading import Thread
from typing import Any, BinaryIO

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from serve_app.fal import ENDPOINT, QUEUE, REST
from serve_app.jobs.model import LogLevel

POLL_S = 0.3
BLOCK = 1 << 20


class RequestFailed(Exception):
    """The request was refused or failed; the message is the service's own where it sent one."""


@dataclass(frozen=True, slots=True)
class Server:
    """The service to call.

    verify: TLS verification, as httpx takes it.
    key: the API key, if one is required.
    local: whether the service can fetch from loopback addresses of this machine.
    """

    url: str
    verify: ssl.SSLContext | bool = True
    key: str | None = None
    local: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Headers for API calls; file transfers need no key."""
        return {"Authorization": f"Key {self.key}"} if self.key else {}

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, verify=self.verify, trust_env=False, **options)


def trust_store() -> ssl.SSLContext:
    """Trusts the public authorities and those of this machine (SSL_CERT_FILE names a private one)."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def progress_bars(console: Console) -> Progress:
    """A context manager that shows the log and progress of the requests under way."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames{task.fields[rate]}"),
    )
    return Progress(*columns, console=console)


async def cut_out(server: Server, fields: dict[str, Any], label: str, bars: Progress) -> dict[str, Any]:
    """Runs one request through the queue, showing its log and progress, and returns its output.

    Cancelling this coroutine (Ctrl-C) cancels the request, also one that is just being submitted, and says what became
    of it. Raises `RequestFailed`.
    """
    async with server.client(timeout=60, headers=server.headers) as client:
        submission = asyncio.ensure_future(client.post(QUEUE + ENDPOINT, json=fields))
        try:
            # Shielded: only its reply names the request that is to be cancelled.
            submitted = json_of(await asyncio.shield(submission))
            await _watch(client, submitted["status_url"], label, bars)
            return json_of(await client.get(submitted["response_url"]))
        except asyncio.CancelledError:
            bars.console.print(f"{label}: {await _cancel(client, submission)}", soft_wrap=True)
            raise
        except httpx.TransportError as error:
            raise RequestFailed(f"{server.url} cannot be reached: {error}") from error


async def _cancel(client: httpx.AsyncClient, submission: asyncio.Future[httpx.Response]) -> str:
    """Cancels the request of a submission, which may still be under way, and says what became of it."""
    try:
        submitted = await submission
    except httpx.ConnectError:
        return "interrupted before it was submitted"
    except httpx.TransportError as error:
        return f"interrupted; the service may have accepted it, but its reply was lost: {error}"
    if not submitted.is_success:
        return "interrupted; the service had refused it"
    request = submitted.json()
    try:
        json_of(await client.put(request["cancel_url"]))
    except (httpx.TransportError, RequestFailed) as error:
        return f"interrupted, but request {request['request_id']} was not cancelled: {error}"
    return f"interrupted, request {request['request_id']} is cancelled"


async def _watch(client: httpx.AsyncClient, status_url: str, label: str, bars: Progress) -> None:
    """Shows the log and progress of a request until it ends."""
    task = bars.add_task(label, total=None, rate="")
    shown, total = 0, None
    while True:
        status = json_of(await client.get(status_url, params={"logs": 1}))
        for line in status["logs"][shown:]:
            if line["level"] != LogLevel.DEBUG:  # repeats the progress bar
                bars.console.print(f"  {label}: {line['message']}")
        shown = len(status["logs"])
        if status["status"] == "COMPLETED":
            bars.update(task, completed=total, rate="")
            return
        if (progress := status.get("progress")) and progress["frames_total"]:
            done, total = progress["frames_done"], progress["frames_total"]
            bars.update(task, completed=done, total=total, rate=_speed(progress))
        await asyncio.sleep(POLL_S)


def _speed(progress: dict[str, Any]) -> str:
    """For example ", 6.1 frames/s, 0:00:14 left"; empty until both are known."""
    rate, left = progress["frames_per_second"], progress["seconds_left"]
    if rate is None or left is None:
        return ""
    return f", {rate:.1f} frames/s, {timedelta(seconds=round(left))} left"


async def download(server: Server, url: str, path: Path) -> None:
    """Streams a finished file to `path`. A failed transfer leaves no file and raises `RequestFailed`."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            await copy(server, url, file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def copy(server: Server, url: str, file: BinaryIO) -> None:
    """Streams a finished file into an open one, which need not be seekable. Raises `RequestFailed`."""
    try:
        async with server.client(timeout=60) as client, client.stream("GET", url) as reply:
            reply.raise_for_status()
            async for piece in reply.aiter_bytes():
                file.write(piece)
    except httpx.HTTPError as error:
        raise RequestFailed(f"{url} could not be downloaded: {error}") from error


async def upload(server: Server, path: Path) -> str:
    """Uploads a local file to the service's storage and returns its URL. Raises `RequestFailed`."""
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    announced = {"content_type": kind, "file_name": path.name}
    headers = {"Content-Type": kind, "Content-Length": str(path.stat().st_size)}
    try:
        async with server.client(timeout=60, headers=server.headers) as client:
            target = json_of(await client.post(REST + "/storage/upload/initiate", json=announced))
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
    """Serves a local file on loopback and yields its URL, for a service on this machine."""

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


def json_of(reply: httpx.Response) -> dict[str, Any]:
    """Returns the object in a successful reply. Raises `RequestFailed` with the service's message otherwise."""
    if not reply.is_success:
        raise RequestFailed(_message(reply))
    found: dict[str, Any] = reply.json()
    return found


def _message(reply: httpx.Response) -> str:
    """The error message of a reply."""
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code}: {reply.text[:300]}"
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in detail)
