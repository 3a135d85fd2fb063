"""URLs of outputs, made when a reply is written: the same job may be asked for through several hosts."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from serve_app.protocols import MediaFile
from serve_app.storage.artifacts import Artifacts

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True)
class FileUrls:
    """Where clients reach the file server: at `public_url`, or on `port` of the host that they asked."""

    port: int
    public_url: str | None = None

    def of(self, name: str, request: Request) -> str:
        """The URL of the artifact `name` for the client that sent `request`."""
        return f"{self._base(request)}/files/{quote(name)}"

    def _base(self, request: Request) -> str:
        if self.public_url:
            return self.public_url.rstrip("/")
        host = request.url.hostname or ""
        if not _HOST.fullmatch(host):
            host = str((request.scope.get("server") or ("127.0.0.1",))[0])
        return f"{request.url.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


def data_uri(artifacts: Artifacts, file: MediaFile) -> str:
    """The file itself as a URL."""
    with artifacts.local_path(file.name) as path:
        return f"data:{file.content_type};base64,{b64encode(path.read_bytes()).decode()}"
