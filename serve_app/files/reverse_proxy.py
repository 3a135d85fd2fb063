"""The reverse proxy: files and the API on one port, distinguished by path and host name.

Requests for files are answered in this process. Everything else is relayed to Serve's proxy on loopback. Bodies are
streamed in both directions, so that an input of hundreds of megabytes takes no memory and events are not delayed.

One upload needs both: `fal-client` 0.5.0 sends its API key to fal.media instead of a token. The API, which alone knows
the keys, exchanges it for one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterable

import httpcore
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import CDN, REST, is_cdn

logger = logging.getLogger("ray.serve")

FILES = "/files/"
# No read timeout: a run is answered after minutes.
LIMITS = {"timeout": {"connect": 10.0, "read": None, "write": None, "pool": None}}
# Shorter than any server's keep-alive: a request on a connection that the server has just closed would fail.
KEEP_ALIVE_S = 2.0

UPLOAD = "/files/upload"
TOKEN = f"{REST}/storage/auth/token"
TOKEN_LIMITS = {"timeout": {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": None}}

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
SCHEME = b"x-forwarded-proto"
REPLACED = frozenset((SCHEME, b"expect"))  # request headers that this server sets anew or handles itself
SERVER_HEADERS = frozenset((b"date", b"server"))  # reply headers that this server adds itself


class ReverseProxy:
    """Routes requests for files to the application `files`, and all others to the server at `upstream`."""

    def __init__(self, files: ASGIApp, upstream: str) -> None:
        self._files = files
        self._upstream = httpcore.URL(upstream)
        # Unlimited connections: each waiting run holds one, and status calls must not queue behind them.
        self._pool = httpcore.AsyncConnectionPool(max_connections=None, keepalive_expiry=KEEP_ALIVE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(FILES) or is_cdn(_host(scope)):
            if key := _key_of_upload(scope):
                await self._upload_with_key(key, scope, receive, send)
            else:
                await self._files(scope, receive, send)
            return
        client = _Client(scope, receive)
        tasks = [
            asyncio.create_task(self._relay(scope, client, send)),
            asyncio.create_task(client.disconnected()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:  # a cancelled relay closes its connection, which notifies Serve
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Closes the idle connections. Call it when no request is in progress."""
        await self._pool.aclose()

    async def _upload_with_key(self, key: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes an upload to the file server with the token that the API issues for the key, or the API's refusal."""
        try:
            reply = await self._pool.request(
                "POST",
                self._url(TOKEN.encode()),
                headers=[(b"authorization", key), (b"content-type", b"application/json")],
                content=b"{}",
                extensions=TOKEN_LIMITS,
            )
        except httpcore.LocalProtocolError as error:
            await _malformed(error)(scope, receive, send)
        except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            await _unreachable(error)(scope, receive, send)
        else:
            if reply.status != 200:
                headers = _end_to_end(reply.headers, SERVER_HEADERS)
                await send({"type": "http.response.start", "status": reply.status, "headers": headers})
                await send({"type": "http.response.body", "body": reply.content})
                return
            bearer = b"Bearer " + json.loads(reply.content)["token"].encode()
            others = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
            await self._files({**scope, "headers": [*others, (b"authorization", bearer)]}, receive, send)

    async def _relay(self, scope: Scope, client: _Client, send: Send) -> None:
        started = False
        try:
            async with self._pool.stream(
                scope["method"],
                self._address(scope),
                headers=_request_headers(scope),
                content=client.body() if client.sends_body else None,
                extensions=LIMITS,
            ) as reply:
                started = True
                headers = _end_to_end(reply.headers, SERVER_HEADERS)
                await send({"type": "http.response.start", "status": reply.status, "headers": headers})
                async for chunk in reply.aiter_stream():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        except ClientDisconnect:
            pass  # no client to reply to
        except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            if started:
                raise  # the server then closes the connection, so the client notices that the reply is incomplete
            refusal = (
                _malformed(error) if isinstance(error, httpcore.LocalProtocolError) else _unreachable(error)
            )
            await refusal(scope, client.receive, send)

    def _address(self, scope: Scope) -> httpcore.URL:
        query = scope["query_string"]
        return self._url(scope["raw_path"] + (b"?" + query if query else b""))

    def _url(self, target: bytes) -> httpcore.URL:
        base = self._upstream
        return httpcore.URL(scheme=base.scheme, host=base.host, port=base.port, target=target)


class _Client:
    """The client of one request: its body and its disconnection."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.receive = receive
        self.sends_body = any(
            name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]
        )
        self._finished = asyncio.Event()
        if not self.sends_body:
            self._finished.set()

    async def body(self) -> AsyncIterator[bytes]:
        """Streams the body. Raises `ClientDisconnect` if the client disconnects before its end."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            if chunk := message.get("body"):
                yield chunk
        self._finished.set()

    async def disconnected(self) -> None:
        """Returns when the client has disconnected. Until the body was read, `body` notices that instead."""
        await self._finished.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


def _host(scope: Scope) -> str:
    return _header(scope, b"host").decode("latin-1")


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _key_of_upload(scope: Scope) -> bytes | None:
    """The Authorization header of an upload to fal.media that has a key in it, and of no other request."""
    if (scope.get("method"), scope["path"], _host(scope).lower().partition(":")[0]) != ("POST", UPLOAD, CDN):
        return None
    authorization = _header(scope, b"authorization").strip()
    return authorization if authorization[:4].lower() == b"key " else None


def _request_headers(scope: Scope) -> Headers:
    headers = _end_to_end(scope["headers"], REPLACED)
    # Hop-by-hop, but kept: httpcore needs it to frame a body of unknown length.
    headers += [(name, value) for name, value in scope["headers"] if name == b"transfer-encoding"]
    return [*headers, (SCHEME, scope["scheme"].encode())]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]], without: frozenset[bytes]) -> Headers:
    """The headers without the hop-by-hop ones, those that `Connection` names, and those in `without`."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {
        option.strip().lower()
        for name, value in lower
        if name == b"connection"
        for option in value.split(b",")
    }
    dropped = HOP_BY_HOP | named | without
    return [(name, value) for name, value in lower if name not in dropped]


def _unreachable(error: Exception) -> JSONResponse:
    """The reply if the upstream does not answer."""
    logger.warning("cannot relay a request: %r", error)
    detail = "The service does not answer at the moment. Try again later."
    return _refusal(503, detail, "runner_connection_refused", "true")


def _malformed(error: Exception) -> JSONResponse:
    """The reply to a request that this server accepts but that cannot be relayed as valid HTTP."""
    return _refusal(400, f"The request is not valid HTTP: {error}.", "bad_request", "false")


def _refusal(status: int, detail: str, kind: str, retryable: str) -> JSONResponse:
    headers = {
        "x-fal-request-id": str(uuid.uuid4()),
        "X-Fal-Error-Type": kind,
        "X-Fal-Retryable": retryable,
        "X-Fal-Needs-Retry": retryable,
        "Access-Control-Allow-Origin": "*",
    }
    return JSONResponse({"detail": detail, "error_type": kind}, status, headers)
