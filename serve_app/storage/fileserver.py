"""Downloads of outputs: `GET /files/{name}` with ranges, straight from disk, for players and browsers.

Only artifacts below `outputs/` are served, by their full name; there is nothing to list. The name carries the
job's random id, which is all that protects an output: whoever has the URL may read it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from email.utils import parsedate_to_datetime
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.storage.names import check_name, is_output

TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".gif": "image/gif"}

CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-length, content-range, etag, last-modified"),
    (b"timing-allow-origin", b"*"),
    (b"x-content-type-options", b"nosniff"),
]
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "range, if-range, if-none-match, if-modified-since, cache-control",
    "Access-Control-Max-Age": "86400",
}


def make_files_app(root: Path) -> Starlette:
    """The ASGI application that serves the outputs in the artifact directory `root`."""
    root = root.resolve()

    async def serve(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=PREFLIGHT)
        found = await asyncio.to_thread(_find, root, request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        path, status = found
        response = _Download(path, media_type=TYPES.get(path.suffix.lower()), stat_result=status)
        if _unchanged(request.headers, response):
            keep = {name: response.headers[name] for name in ("etag", "last-modified")}
            return Response(status_code=304, headers=keep)
        return response

    app = Starlette(
        routes=[Route("/files/{name:path}", serve, methods=["GET", "HEAD", "OPTIONS"])],
        middleware=[Middleware(_CrossOrigin)],
        exception_handlers={HTTPException: _error},
    )
    app.router.redirect_slashes = False
    return app


class _Download(FileResponse):
    chunk_size = 256 * 1024  # what one reader holds in memory; the server waits for slow ones


class _CrossOrigin:
    """Adds the headers that let pages of any origin play and read the files, to errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *CORS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _find(root: Path, name: str) -> tuple[Path, os.stat_result] | None:
    """The regular file behind an output's name."""
    try:
        if not is_output(check_name(name)):
            return None
        path = (root / name).resolve(strict=True)
        status = path.stat()
    except (ValueError, OSError):
        return None
    inside = path.is_relative_to(root) and stat.S_ISREG(status.st_mode)
    return (path, status) if inside else None


def _unchanged(headers: Headers, response: FileResponse) -> bool:
    """Whether the client's copy is current (RFC 9110: If-None-Match decides alone when it is there)."""
    if (tags := headers.get("if-none-match")) is not None:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "*" in known or response.headers["etag"] in known
    try:
        since = parsedate_to_datetime(headers["if-modified-since"])
        return parsedate_to_datetime(response.headers["last-modified"]) <= since
    except (KeyError, ValueError, TypeError):
        return False


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"Path {request.url.path} not found" if error.status_code == 404 else error.detail
    return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)
