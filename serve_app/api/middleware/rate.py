"""Replies 429 to requests beyond the rate of their account, or of all; inside the authentication, which names it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.accounts.quotas import Quotas
from serve_app.api.middleware.auth import PUBLIC_PATHS, path_of
from serve_app.api.replies import reply
from serve_app.errors import QuotaExceeded, to_wire


class RequestRate:
    """Counts each request but those to public paths, which probes and pages ask for without a key."""

    def __init__(self, app: ASGIApp, quotas: Quotas) -> None:
        self.app = app
        self._quotas = quotas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] != "OPTIONS" and path_of(scope) not in PUBLIC_PATHS:
            try:
                self._quotas.count_request(scope.get("state", {}).get("account"))
            except QuotaExceeded as error:
                await reply(to_wire(error))(scope, receive, send)
                return
        await self.app(scope, receive, send)
