"""CORS: pages of any origin may use the API. They authenticate with a header, never a cookie."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = "GET, POST, PUT, DELETE"
# Listed by name: in browsers `*` does not cover Authorization.
REQUEST_HEADERS = (
    "authorization",
    "content-type",
    "accept",
    "idempotency-key",
    "x-fal-request-timeout",
    "x-fal-queue-priority",
    "x-fal-runner-hint",
    "x-fal-object-lifecycle",
    "x-fal-object-lifecycle-preference",
    "x-fal-store-io",
    "x-fal-no-retry",
    "x-fal-retry-config",
    "x-fal-tags",
    "x-fal-file-name",
    "x-fal-cdn-token",
    "x-fal-target-url",
    "x-fal-client-proxy",
    "x-app-fal-disable-fallback",
    "x-app-fal-can-disable-filter",
)
RESPONSE_HEADERS = (
    "x-fal-request-id",
    "x-fal-error-type",
    "x-fal-request-timeout-type",
    "x-fal-retryable",
    "x-fal-needs-retry",
    "x-fal-billable-units",
    "x-fal-served-from",
    "x-fal-runner-hints",
    "x-fal-cdn-token",
    "retry-after",
)

PREFLIGHT = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": ", ".join(REQUEST_HEADERS),
    "Access-Control-Max-Age": "86400",
}
CORS_HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode()),
    (b"timing-allow-origin", b"*"),
]


class Cors:
    """Adds CORS headers to every reply. The outermost layer, so that pages can read errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *CORS_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_cors)


class Preflights:
    """Answers every OPTIONS request. Outside authentication: browsers send no key with a preflight."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_preflight = scope["type"] == "http" and scope["method"] == "OPTIONS"
        app = Response(status_code=204, headers=PREFLIGHT) if is_preflight else self.app
        await app(scope, receive, send)
