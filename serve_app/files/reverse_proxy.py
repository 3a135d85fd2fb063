"""The reverse proxy: files and the whole API on one port, told apart by path and host name.

Requests for files are answered in this process. Everything else is relayed to Serve's proxy on loopback: bodies pass
in both directions as they come, so that an input of hundreds of megabytes takes no memory and events are not held up.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterable

import httpcore
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import is_cdn

logger = logging.getLogger("ray.serve")

FILES = "/files/"
# No limit for reading: a run is answered after minutes.
LIMITS = {"timeout": {"connect": 10.0, "read": None, "write": None, "pool": None}}
# Shorter than any server keeps an idle connection: one that it has just closed would cost a request.
KEEP_ALIVE_S = 2.0

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
ANSWERED_HERE = frozenset((SCHEME, b"expect"))  # of a request: told anew, dealt with by our server
OWN = frozenset((b"date", b"server"))  # of a reply: our server adds its own


class ReverseProxy:
    """Gives what concerns files to the application `files`, and everything else to the server at `upstream`."""

    def __init__(self, files: ASGIApp, upstream: str) -> None:
        self._files = files
        self._upstream = httpcore.URL(upstream)
        # Any number of connections: each run that waits holds one, and status calls must not queue behind them.
        self._pool = httpcore.AsyncConnectionPool(max_connections=None, keepalive_expiry=KEEP_ALIVE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(FILES) or is_cdn(_host(scope)):
            await self._files(scope, receive, send)
            return
        caller = _Caller(scope, receive)
        tasks = [
            asyncio.create_task(self._relay(scope, caller, send)),
            asyncio.create_task(caller.leaves()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:  # a relay that is cut closes its connection, by which Serve knows
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the idle connections; call it when no request is under way."""
        await self._pool.aclose()

    async def _relay(self, scope: Scope, caller: _Caller, send: Send) -> None:
        started = False
        try:
            async with self._pool.stream(
                scope["method"],
                self._address(scope),
                headers=_request_headers(scope),
                content=caller.body() if caller.sends_body else None,
                extensions=LIMITS,
            ) as reply:
                started = True
                headers = _end_to_end(reply.headers, OWN)
                await send({"type": "http.response.start", "status": reply.status, "headers": headers})
                async for chunk in reply.aiter_stream():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        except ClientDisconnect:
            pass  # nobody reads a reply
        except (httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException) as error:
            if started:
                raise  # the server then cuts the connection, and the client sees that it lacks something
            refusal = _malformed(error) if isinstance(error, httpcore.LocalProtocolError) else _down(error)
            await refusal(scope, caller.receive, send)

    def _address(self, scope: Scope) -> httpcore.URL:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        base = self._upstream
        return httpcore.URL(scheme=base.scheme, host=base.host, port=base.port, target=target)


class _Caller:
    """The client of one request: what it sends, and when it goes away."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.receive = receive
        self.sends_body = any(
            name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]
        )
        self._finished = asyncio.Event()
        if not self.sends_body:
            self._finished.set()

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes; `ClientDisconnect` when it breaks off."""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            if chunk := message.get("body"):
                yield chunk
        self._finished.set()

    async def leaves(self) -> None:
        """Return when the client has gone. While the body is read, its reader sees that."""
        await self._finished.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass


def _host(scope: Scope) -> str:
    return next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")


def _request_headers(scope: Scope) -> Headers:
    headers = _end_to_end(scope["headers"], ANSWERED_HERE)
    # Not a header of the connection alone here: it is what frames a body of unknown length.
    headers += [(name, value) for name, value in scope["headers"] if name == b"transfer-encoding"]
    return [*headers, (SCHEME, scope["scheme"].encode())]


def _end_to_end(headers: Iterable[tuple[bytes, bytes]], without: frozenset[bytes]) -> Headers:
    """Every header but those of the connection, those that `Connection` names, and `without`."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {
        option.strip().lower()
        for name, value in lower
        if name == b"connection"
        for option in value.split(b",")
    }
    dropped = HOP_BY_HOP | named | without
    return [(name, value) for name, value in lower if name not in dropped]


def _down(error: Exception) -> JSONResponse:
    """The reply when nobody answers behind the door."""
    logger.warning("a request could not be relayed: %r", error)
    detail = "The service does not answer at the moment. Try again later."
    return _refusal(503, detail, "runner_connection_refused", "true")


def _malformed(error: Exception) -> JSONResponse:
    """The reply to what our server lets through and no other has to take."""
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
