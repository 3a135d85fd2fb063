"""The Serve deployment of the file server: Serve supervises it, but no file passes through Serve's proxy."""

from __future__ import annotations

from ray import serve

from serve_app.artifacts.store import Artifacts
from serve_app.callers import Callers
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.reverse_proxy import ReverseProxy
from serve_app.files.signing import Signer
from serve_app.settings import Settings


@serve.deployment(num_replicas=1)
class FileServer:
    """Serves outputs and receives uploads on a separate port, in the replica's event loop.

    With `files.upstream`, it is also the reverse proxy for everything else.
    """

    # Serve awaits an async constructor, which Python's type system does not allow.
    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        files = settings.files
        app = make_files_app(
            Artifacts.of(settings),
            Signer.of(settings),
            settings.uploads,
            files.public_url,
            Callers.of(settings),
        )
        self._proxy = ReverseProxy(app, files.upstream) if files.upstream else None
        self._server = HttpServer(
            self._proxy or app, files.host, files.port, settings.tls, drain_s=files.drain_s
        )
        await self._server.start()

    async def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    async def check_health(self) -> None:
        """Raises `RuntimeError` if the server has stopped, so that Serve replaces the replica."""
        self._server.check()

    async def __del__(self) -> None:
        """Stops the server. Serve awaits this before it ends the replica."""
        if hasattr(self, "_server"):
            await self._server.stop()
            if self._proxy is not None:
                await self._proxy.close()
