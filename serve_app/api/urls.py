"""URLs in replies. They depend on the request: clients may reach the same job through several hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from serve_app.files.links import FileLinks

_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def authority(request: Request) -> tuple[str, str]:
    """Returns the host of the request (IPv6 in brackets) and ":port" or "".

    An invalid Host header is not repeated: the server's own address takes its place.
    """
    match = _AUTHORITY.fullmatch(request.headers.get("host", ""))
    if match:
        return match[1], match[2] or ""
    host, port = request.scope.get("server") or ("127.0.0.1", None)
    return f"[{host}]" if ":" in host else host, f":{port}" if port else ""


def base_url(request: Request, prefix: str, public_url: str | None) -> str:
    """Returns the base URL of the routes below `prefix` for this client, without the prefix if its host implies it.

    public_url: base URL of the application for clients, if a proxy replaces the Host header.
    """
    by_host = request.scope.get("state", {}).get("host_prefix") == prefix
    if public_url and not by_host:
        return public_url.rstrip("/") + prefix
    scheme = urlsplit(public_url).scheme if public_url else request.scope["scheme"]
    root = request.scope.get("root_path", "")
    return f"{scheme}://{''.join(authority(request))}{root}{'' if by_host else prefix}"


@dataclass(frozen=True, slots=True)
class FileUrls:
    """Base URLs of the file server: `public_url`, or the request's host with `port` (None: the request's port).

    tls: whether that port speaks https; the scheme of the request does not tell, as a proxy may end TLS before the API.
    """

    port: int | None
    links: FileLinks
    public_url: str | None = None
    tls: bool = False

    def of(self, name: str, request: Request) -> str:
        """The URL of the artifact `name` for the client that sent `request`."""
        return self.links.at(name, self.base(request))

    def base(self, request: Request) -> str:
        """The base URL of the file server for that client, without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host, port = authority(request)
        if self.port is None:
            return f"{request.url.scheme}://{host}{port}"
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"
