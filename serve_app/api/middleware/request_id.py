"""Request ids, the handler of last resort for bugs, and the Server-Timing header."""

from __future__ import annotations

import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.replies import unexpected

HEADER = b"x-fal-request-id"


class RequestId:
    """Gives each request a fresh id and each reply the header `x-fal-request-id`.

    A handler reads the id from `request.state.request_id`, uses it for a job that it creates, and may replace it by
    the id of the job that the request is about. Uncaught errors become a reply here rather than in the framework's
    outermost layer, whose reply would lack the header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A copy for each request: a server may share the one it passes in.
        state = scope["state"] = {**scope.get("state", {}), "request_id": str(uuid.uuid4())}
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], (HEADER, state["request_id"].encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            if started:
                raise
            await unexpected(error)(scope, receive, send_with_id)


class ServerTiming:
    """Adds the header `server-timing`: milliseconds from the request's arrival to the start of the reply."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.perf_counter()

        async def send_with_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                spent = (time.perf_counter() - arrived) * 1000
                header = (b"server-timing", f"app;dur={spent:.3f}".encode())
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self.app(scope, receive, send_with_time)
