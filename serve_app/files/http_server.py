"""A uvicorn server that is a guest in somebody else's event loop: it can be started, watched and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from serve_app.settings import TlsSettings


class HttpServer:
    """Serves `app` on `host`:`port` from `start` to `stop`, with `tls` over https. Port 0 takes a free one.

    drain_s: whole seconds that transfers get to end after `stop`.
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
        self._server = _Guest(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when requests are answered; raise what kept the server from starting."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self.check()
            await asyncio.sleep(0.005)

    def check(self) -> None:
        """Raise `RuntimeError` when the server does not run."""
        if self._task is None or self._task.done():
            cause = self._task.exception() if self._task and not self._task.cancelled() else None
            raise RuntimeError(f"the HTTP server on port {self.port} has stopped") from cause

    async def stop(self) -> None:
        """Stop listening, let transfers end for the drain time, then cut them."""
        self._server.should_exit = True
        if self._task is not None:
            with contextlib.suppress(Exception):
                await self._task
            await self._cut()
        self._socket.close()

    async def _cut(self) -> None:
        """End what outlasted the drain: uvicorn has only asked for it, and a reader may never come back."""
        state = self._server.server_state
        await asyncio.gather(*state.tasks, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.abort()


class _Guest(uvicorn.Server):
    """Leaves the signals to the host process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket that another server of ours may share: in a rolling update old and new overlap."""
    family, _, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # asyncio asks for the protocol, and without it leaves connections to Nagle: 40 ms for each short reply.
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
