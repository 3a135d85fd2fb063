"""Who is answered by a service that asks for no key: this machine's programs, and the pages of this service.

Any page that a browser on this machine shows could otherwise send requests to the service, and read requests, URLs of
outputs and, through sources, the network around it. Browsers tell where a request comes from: by `Origin`, and by
`Sec-Fetch-Site` (W3C, Fetch Metadata Request Headers). `Host` tells a page whose name was pointed to this machine after
it was loaded (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import VENDOR_NAMES, is_cdn
from serve_app.settings import Settings

KEYLESS = "This service asks for no API key, so it answers only"
FOREIGN_HOST = (
    KEYLESS + " under this machine's names, not as {!r}. Add the name to auth.hosts, or require keys."
)
FOREIGN_PAGE = KEYLESS + " its own pages, not those of {}. Add their origin to auth.origins, or require keys."


@dataclass(frozen=True, slots=True)
class Callers:
    """Names under which the service may be asked besides loopback's, and further origins of pages; lower case.

    vendor: whether the vendor's names are led to this machine (`up --names`).
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    vendor: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Callers | None:
        """None if keys are required: then whoever has one may come from anywhere."""
        if settings.auth.required:
            return None
        urls = (settings.public_url, settings.files.public_url)
        names = {socket.gethostname(), *settings.auth.hosts, *(urlsplit(url).hostname for url in urls if url)}
        return cls(
            frozenset(name.lower() for name in names if name),
            frozenset(origin.rstrip("/").lower() for origin in settings.auth.origins),
            vendor=settings.files.upstream is not None,
        )

    def knows(self, host: str, own_address: str | None) -> bool:
        """Whether the name of a `Host` header (without port and brackets) is this machine's."""
        name = host.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self.hosts or name == own_address:
            return True
        if self.vendor and (name in VENDOR_NAMES or is_cdn(name)):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class CallerGuard:
    """Refuses other callers with 403, and without CORS headers, so that their pages cannot read it.

    any_port: pages at another port of the same host are this service's too, as for the file server.
    """

    def __init__(self, app: ASGIApp, callers: Callers, *, any_port: bool = False) -> None:
        self.app = app
        self._callers = callers
        self._any_port = any_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await JSONResponse({"detail": refusal}, 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = urlsplit(f"//{headers.get(b'host', 'localhost')}")
        if not self._callers.knows(host.hostname or "", (scope.get("server") or (None,))[0]):
            return FOREIGN_HOST.format(host.netloc)
        origin = headers.get(b"origin")
        if origin is not None:
            return None if self._is_own(origin.lower(), host.netloc.lower()) else FOREIGN_PAGE.format(origin)
        # Without Origin: visits, but also images, scripts and the like, of which a page sees whether they load.
        elsewhere = headers.get(b"sec-fetch-site") in ("cross-site", "same-site")
        if elsewhere and headers.get(b"sec-fetch-mode") != "navigate" and not self._any_port:
            return FOREIGN_PAGE.format("other origins")
        return None

    def _is_own(self, origin: str, netloc: str) -> bool:
        if origin in self._callers.origins:
            return True
        page, asked = urlsplit(origin), urlsplit(f"//{netloc}")
        return page.netloc == netloc or (self._any_port and page.hostname == asked.hostname)
