"""Cross-origin calls: pages of any origin may use the API. A key is a header that they send, never a cookie."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = "GET, POST, PUT, DELETE"
# By name: for browsers a `*` does not stand for Authorization.
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
REPLY = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(RESPONSE_HEADERS).encode()),
    (b"timing-allow-origin", b"*"),
]


class Cors:
    """Opens every reply. The outermost layer: errors are to be read, too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *REPLY]
            await send(message)

        await self.app(scope, receive, send_open)


class Preflights:
    """Answers every OPTIONS request. Outside of the keys: browsers send none along."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["method"] == "OPTIONS"
        app = Response(status_code=204, headers=PREFLIGHT) if asked else self.app
        await app(scope, receive, send)
