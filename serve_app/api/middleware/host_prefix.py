"""Virtual hosts: the vendor separates its services by host name, this application by a prefix of the path.

`queue.fal.example/fal-ai/…` is `fal.example/queue/fal-ai/…`. Replies name addresses as the client would: with the
prefix, or below the host that stands for it. Behind the reverse proxy the scheme that clients use is what that says.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import QUEUE, REST

PREFIXES = {"queue.": QUEUE, "rest.": REST}  # how a host name begins, and the prefix that it stands for


class HostPrefixes:
    """Puts the prefix that the host stands for before the path, unless the client has done so."""

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
                    head = root.encode()
                    scope["raw_path"] = head + prefix.encode() + raw.removeprefix(head)
                scope.setdefault("state", {})["host_prefix"] = prefix
        await self.app(scope, receive, send)


class ForwardedScheme:
    """Takes the scheme from X-Forwarded-Proto, unchecked: only for where every request comes by the reverse proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            said = next((value for name, value in scope["headers"] if name == b"x-forwarded-proto"), b"")
            if said in (b"http", b"https"):
                scope = {**scope, "scheme": said.decode()}
        await self.app(scope, receive, send)


def _prefix(scope: Scope) -> str | None:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    return next((prefix for start, prefix in PREFIXES.items() if host.startswith(start)), None)
