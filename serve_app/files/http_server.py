"""A uvicorn server that runs in an existing event loop, with start, health check and stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from serve_app.settings import TlsSettings


class HttpServer:
    """Serves `app` on `host`:`port` from `start` to `stop`; over https with `tls`. Port 0 chooses a free one.

    drain_s: seconds, rounded, that transfers may take to finish after `stop`.
    Raises `OSError` if the port cannot be bound.
    """

    def __init__(
        self, app: ASGIApp, host: str, port: int, tls: TlsSettings | None = None, *, drain_s: float
    ) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=round(drain_s),
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        self._server = _EmbeddedServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the server accepts requests. Raises `RuntimeError` from the cause if it cannot start."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self.check()
            await asyncio.sleep(0.005)

    def check(self) -> None:
        """Raises `RuntimeError` if the server is not running."""
        if self._task is None or self._task.done():
            cause = self._task.exception() if self._task and not self._task.cancelled() else None
            raise RuntimeError(f"the HTTP server on port {self.port} has stopped") from cause

    async def stop(self) -> None:
        """Stops listening, waits up to the drain time for transfers to finish, then closes them."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(Exception):
                await self._task
            await self._abort_connections()
        self._socket.close()

    async def _abort_connections(self) -> None:
        """Aborts connections that outlasted the drain: uvicorn only asks them to close."""
        state = self._server.server_state
        await asyncio.gather(*state.tasks, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.abort()


class _EmbeddedServer(uvicorn.Server):
    """A server that leaves signals to the host process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket with SO_REUSEPORT: in a rolling update the old and the new server overlap."""
    family, _, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # asyncio disables Nagle's algorithm only if the protocol is set; otherwise each short reply takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"cannot serve files on {host}:{port} ({error.strerror}): choose a free port"
        ) from error
    return listener
