"""The Serve deployment around the file server: Serve supervises it, no byte goes through Serve."""

from __future__ import annotations

from pathlib import Path

from ray import serve

from serve_app.storage.fileserver import make_files_app
from serve_app.storage.serving import HttpServer


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1}, graceful_shutdown_timeout_s=20.0)
class FileServer:
    """Serves the outputs below `root` on a port of its own, in the replica's event loop."""

    # Serve awaits an async constructor; Python's typing does not know of such a thing.
    async def __init__(  # type: ignore[misc]
        self, root: Path, host: str, port: int, drain_s: float = 10.0
    ) -> None:
        self._server = HttpServer(make_files_app(root), host, port, drain_s)
        await self._server.start()

    async def port(self) -> int:
        """The port that it listens on, for when 0 was asked for."""
        return self._server.port

    async def check_health(self) -> None:
        """Fails when the server has ended, so that Serve starts a new replica."""
        self._server.check()

    async def __del__(self) -> None:
        """Serve awaits this before it ends the replica."""
        if hasattr(self, "_server"):
            await self._server.stop()
