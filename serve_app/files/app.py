"""The file server: serves outputs and uploads to players and browsers, and receives uploads.

`GET /files/{signature}/{name}` serves artifacts below `outputs/` and `uploads/` to anyone with the signed URL: from
disk, with ranges, or by a redirect to a signed URL of the bucket. Files cannot be listed.
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
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.artifacts.names import check_name, is_output
from serve_app.artifacts.store import Artifacts
from serve_app.callers import CallerGuard, Callers
from serve_app.files.signing import Signer
from serve_app.files.upload_names import UPLOADS, content_type
from serve_app.files.upload_routes import REFUSALS, UploadRoutes, upload_error
from serve_app.files.uploads import Uploads
from serve_app.settings import UploadSettings

REDIRECT_S = 3600.0  # how long a bucket's URL in a redirect is valid

CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-length, content-range, etag, last-modified"),
    (b"timing-allow-origin", b"*"),
    (b"x-content-type-options", b"nosniff"),
]
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "accept, authorization, content-type, range, if-range, if-none-match, "
    "if-modified-since, cache-control, x-fal-file-name, x-fal-object-lifecycle, "
    "x-fal-object-lifecycle-preference",
    "Access-Control-Max-Age": "86400",
}


def make_files_app(
    artifacts: Artifacts,
    signer: Signer,
    limits: UploadSettings,
    public_url: str | None = None,
    callers: Callers | None = None,
) -> Starlette:
    """The ASGI application over an artifact store.

    public_url: the file server's URL as clients see it, if it differs from the request's host.
    callers: who is answered, if the service asks for no keys.
    """
    guard = [Middleware(CallerGuard, callers=callers, any_port=True)] if callers else []
    uploads = UploadRoutes(Uploads(artifacts, limits), signer, limits, public_url)
    app = Starlette(
        routes=[*uploads.routes(), Route("/files/{signature}/{name:path}", Downloads(artifacts, signer).get)],
        middleware=[*guard, Middleware(_Cors)],
        exception_handlers={HTTPException: _error, **dict.fromkeys(REFUSALS, upload_error)},
    )
    app.router.redirect_slashes = False
    return app


class Downloads:
    """The download handler."""

    def __init__(self, artifacts: Artifacts, signer: Signer) -> None:
        self._artifacts = artifacts
        self._signer = signer

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not (_is_public(name) and self._signer.verifies(name, request.path_params["signature"])):
            raise HTTPException(404)
        if not self._artifacts.is_local:
            return await asyncio.to_thread(self._redirect, name, request.method)
        found = await asyncio.to_thread(self._find, name)
        if found is None:
            raise HTTPException(404)
        path, status = found
        response = _Download(path, media_type=content_type(name), stat_result=status)
        if _not_modified(request.headers, response):
            keep = {name: response.headers[name] for name in ("etag", "last-modified")}
            return Response(status_code=304, headers=keep)
        return response

    def _find(self, name: str) -> tuple[Path, os.stat_result] | None:
        try:
            with self._artifacts.local_path(name) as path:
                status = path.lstat()
        except OSError:
            return None
        return (path, status) if stat.S_ISREG(status.st_mode) else None

    def _redirect(self, name: str, method: str) -> Response:
        """A redirect to the bucket. A signed URL is valid for one method, so HEAD is answered here."""
        if method == "HEAD":
            try:
                size = self._artifacts.size(name)
            except FileNotFoundError as error:
                raise HTTPException(404) from error
            headers = {"Content-Length": str(size), "Accept-Ranges": "bytes"}
            return Response(headers=headers, media_type=content_type(name))
        url = self._artifacts.signed_url(name, REDIRECT_S)
        assert url is not None  # only a directory store returns None
        return RedirectResponse(url, 307, {"Cache-Control": "no-store"})


class _Download(FileResponse):
    chunk_size = 256 * 1024  # memory per download; the server applies backpressure to slow readers


class _Cors:
    """CORS for pages of any origin: answers preflight requests, and adds headers to all replies, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *CORS]
            await send(message)

        preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        app = Response(status_code=204, headers=PREFLIGHT) if preflight else self.app
        await app(scope, receive, send_with_headers)


def _is_public(name: str) -> bool:
    """Whether clients may read artifacts of this name. Others are never signed; this is a second check."""
    try:
        return is_output(check_name(name)) or name.startswith(UPLOADS)
    except ValueError:
        return False


def _not_modified(headers: Headers, response: FileResponse) -> bool:
    """Whether the client's copy is current (RFC 9110, section 13.2.2: If-None-Match takes precedence)."""
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
