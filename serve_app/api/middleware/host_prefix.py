"""Virtual hosts: the vendor separates its services by host name, this application by path prefix.

`queue.fal.example/fal-ai/…` is `fal.example/queue/fal-ai/…`. URLs in replies use the form that the client used: the
prefix, or the host that stands for it. Behind the reverse proxy, their scheme is the one that it forwards.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import QUEUE, REST

PREFIXES = {"queue.": QUEUE, "rest.": REST}  # start of a host name -> path prefix


class HostPrefixes:
    """Prepends the prefix that the host stands for, unless the path already has it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = _prefix(scope) if scope["type"] == "http" else None
        if prefix is not None:
            root = scope.get("root_path", "")
            path = scope["path"].removeprefix(root)
            if path != prefix and not path.startswith(prefix + "/"):
                scope = {**scope, "path": root + prefix + path}
                if raw := scope.get("raw_path"):
                    root_bytes = root.encode()
                    scope["raw_path"] = root_bytes + prefix.encode() + raw.removeprefix(root_bytes)
                scope.setdefault("state", {})["host_prefix"] = prefix
        await self.app(scope, receive, send)


class ForwardedScheme:
    """Trusts the scheme in X-Forwarded-Proto; use it only where every request comes through the reverse proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scheme = next((value for name, value in scope["headers"] if name == b"x-forwarded-proto"), b"")
            if scheme in (b"http", b"https"):
                scope = {**scope, "scheme": scheme.decode()}
        await self.app(scope, receive, send)


def _prefix(scope: Scope) -> str | None:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    return next((prefix for start, prefix in PREFIXES.items() if host.startswith(start)), None)
