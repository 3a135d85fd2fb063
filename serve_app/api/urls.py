"""Addresses that replies name, made when a reply is written: the same job may be asked for through several hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from serve_app.files.links import FileLinks

_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def authority(request: Request) -> tuple[str, str]:
    """The host that the client asked (an IPv6 address in brackets) and ":port" or ""; a Host header that is none is
    not repeated to anybody: then it is the server's own address.
    """
    match = _AUTHORITY.fullmatch(request.headers.get("host", ""))
    if match:
        return match[1], match[2] or ""
    host, port = request.scope.get("server") or ("127.0.0.1", None)
    return f"[{host}]" if ":" in host else host, f":{port}" if port else ""


def base_url(request: Request, prefix: str, public_url: str | None) -> str:
    """What the addresses of `prefix` begin with for this client, its prefix included where one is needed.

    `public_url`: the application as clients see it, when a proxy hides it from the Host header.
    """
    by_host = request.scope.get("state", {}).get("host_prefix") == prefix
    if public_url and not by_host:
        return public_url.rstrip("/") + prefix
    scheme = urlsplit(public_url).scheme if public_url else request.scope["scheme"]
    root = request.scope.get("root_path", "")
    return f"{scheme}://{''.join(authority(request))}{root}{'' if by_host else prefix}"


@dataclass(frozen=True, slots=True)
class FileUrls:
    """Where clients reach files: at `public_url`, or on `port` of the host that they asked (None: the port too)."""

    port: int | None
    links: FileLinks
    public_url: str | None = None

    def of(self, name: str, request: Request) -> str:
        """The URL of the artifact `name` for the client that sent `request`."""
        return self.links.at(name, self.base(request))

    def base(self, request: Request) -> str:
        """The file server for that client, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host, port = authority(request)
        if self.port is not None:
            port = f":{self.port}"
        return f"{request.url.scheme}://{host}{port}"
