"""Asking a service over HTTP, with a progress bar: what `remove` and the demo have in common."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
from collections.abc import Iterator
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

from serve_app.api import ENDPOINT

MAX_DATA_URI = 256 << 20


class RequestFailed(Exception):
    """The service refused or failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. `database_url`: of a service on this machine, whose job table tells how far a job is."""

    url: str
    database_url: str | None = None


async def cut_out(server: Server, fields: dict[str, Any], label: str, console: Console) -> dict[str, Any]:
    """The reply to one request, with its progress on the screen. Raises RequestFailed."""
    async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False) as client:
        try:
            reply = await _watched(
                asyncio.ensure_future(client.post(ENDPOINT, json=fields)), server, label, console
            )
        except httpx.TransportError as error:
            raise RequestFailed(f"{server.url} cannot be reached: {error}") from error
    if reply.status_code != 200:
        raise RequestFailed(_message(reply))
    result: dict[str, Any] = reply.json()
    return result


async def download(url: str, path: Path) -> None:
    """Stream a finished file to `path`; a broken transfer leaves nothing there."""
    part = path.with_name(f".{path.name}.part")
    try:
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False) as client,
            client.stream("GET", url) as reply,
        ):
            reply.raise_for_status()
            with part.open("wb") as file:
                async for piece in reply.aiter_bytes():
                    file.write(piece)
        part.replace(path)
    except httpx.HTTPError as error:
        raise RequestFailed(f"{url} could not be downloaded: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def data_uri(path: Path) -> str:
    """A local file for a service that cannot reach this machine."""
    size = path.stat().st_size
    if size > MAX_DATA_URI:
        raise RequestFailed(
            f"{path} has {size >> 20} MiB, more than the {MAX_DATA_URI >> 20} that fit into a request: put it where "
            "the server can read it and give its URL, or run without --server"
        )
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


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


async def _watched(
    request: asyncio.Future[httpx.Response], server: Server, label: str, console: Console
) -> httpx.Response:
    """Show how far the job is until the request is answered."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(label, total=None)
        if server.database_url is None:
            return await request
        from serve_app.jobs.sql import SqlJobStore

        store = SqlJobStore(server.database_url)
        await store.open()
        try:
            before = {job.id for job in await store.recent(1)}
            told = ""
            while not request.done():
                for job in await store.recent(1):
                    step = job.progress
                    if job.id in before:
                        continue
                    bar.update(task, completed=step.frames_done, total=step.frames_total or None)
                    if step.message not in ("", told):
                        told = step.message
                        bar.console.print(f"  {step.stage}: {told}")
                await asyncio.wait([request], timeout=0.25)
        finally:
            await store.close()
    return request.result()


def _message(reply: httpx.Response) -> str:
    """What went wrong, in the service's words."""
    try:
        detail = reply.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code}: {reply.text[:300]}"
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in detail)
