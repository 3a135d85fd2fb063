"""Database connections, with the options that each dialect needs.

Reads and writes use separate connections. Reads are in autocommit mode: one round trip, without BEGIN and ROLLBACK.
SQLite allows one writer at a time: the writers of a process queue for a single connection, in order and without polling
for the lock; SQLite itself waits for other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Engine, Executable, Row, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from serve_app.errors import SetupError

BUSY_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 3.0
WRITE_CONNECTIONS = 4  # per process, to a database server
P = ParamSpec("P")
T = TypeVar("T")
Rows = Sequence[Row[*tuple[Any, ...]]]
Parameters = Mapping[str, Any] | None


class Database:
    """The connections to one database, opened on first use. Raises `SetupError` if the URL is not supported."""

    def __init__(self, url: str) -> None:
        parsed = parse(url)
        self.writer: AsyncEngine
        self._running: set[asyncio.Task[Any]] = set()
        if is_sqlite(parsed):
            options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
            self._reader, self._scanner = _Reader(parsed, options), _Reader(parsed, options)
            self.writer = create_async_engine(
                parsed.set(drivername="sqlite+aiosqlite"),
                pool_size=1,
                max_overflow=0,
                connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": "IMMEDIATE"},
            )
            event.listen(self.writer.sync_engine, "connect", sync_every_commit)
        else:
            self._reader = _Reader(parsed, _server_options(READ_TIMEOUT_S, 1))
            self._scanner = _Reader(parsed, _server_options(BUSY_TIMEOUT_S, 1))
            self.writer = create_async_engine(
                parsed, **_server_options(BUSY_TIMEOUT_S, WRITE_CONNECTIONS), pool_pre_ping=True
            )

    async def read(self, statement: Executable, parameters: Parameters = None) -> Rows:
        """The rows of a short read-only statement, run on the event loop's thread (see `_Reader`)."""
        return self._reader.read(statement, parameters)

    async def scan(self, statement: Executable, parameters: Parameters = None) -> Rows:
        """The rows of a read-only statement that may take long: in a thread, on a separate connection."""
        return await asyncio.to_thread(self._scanner.read, statement, parameters)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction. Its first statement must write, so that it never upgrades a read lock."""
        return self.writer.begin()

    async def run_to_completion(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns the result of `work`, which continues to its end if the caller is cancelled."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        if self._running:
            await asyncio.wait(self._running)
        self._reader.close()
        self._scanner.close()
        await self.writer.dispose()


def uninterrupted(
    write: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Decorates a method that writes: it runs to completion even if its caller is cancelled.

    Clients disconnect at any moment, and a transaction that is cancelled halfway keeps its lock until its connection is
    garbage-collected: ten seconds for all other writers of an SQLite file.
    """

    @wraps(write)
    async def wrapper(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        database: Database = self._database
        return await database.run_to_completion(write(self, *args, **kwargs))

    return wrapper


class _Reader:
    """Reads on the event loop's own thread, on one connection.

    A lookup takes 0.1 ms in a file (with WAL no read waits for a lock) and a round trip to a server. Awaiting it would
    cost more under load, as each iteration of a busy loop takes milliseconds (status calls at the highest rate,
    measured: 1 ms in the handler instead of 10 with SQLite, 4 instead of 22 with Postgres). A server that hangs blocks
    the loop for `READ_TIMEOUT_S` at most.
    """

    def __init__(self, url: URL, options: dict[str, Any]) -> None:
        self._engine: Engine = create_engine(
            url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **options
        )

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        try:
            return self._read(statement, parameters)
        except DBAPIError as error:
            # Reads do not ping their connection first: one that broke is replaced here.
            if not error.connection_invalidated:
                raise
            return self._read(statement, parameters)

    def close(self) -> None:
        self._engine.dispose()

    def _read(self, statement: Executable, parameters: Parameters) -> Rows:
        with self._engine.connect() as connection:
            return connection.execute(statement, parameters).all()


def parse(url: str) -> URL:
    """Parses a database URL and sets its driver. Raises `SetupError` if the database is not supported."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SetupError("the database is not a URL: use sqlite:///PATH or postgresql://…") from error
    backend = parsed.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise SetupError(f"database {backend!r} is not supported; use sqlite:///PATH or postgresql://…")
    path = parsed.database or ""
    if not path or path == ":memory:" or path.startswith("file:"):
        # Each connection would get a separate database.
        raise SetupError("the job table needs a file: use sqlite:///PATH, not an in-memory database")
    return parsed.set(drivername="sqlite")


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Turns connection errors into a `SetupError` of one line, without the password."""
    try:
        yield
    except (OperationalError, OSError) as error:
        reason = str(error.orig if isinstance(error, OperationalError) else error).strip().split("\n")[0]
        raise SetupError(f"the database {url.render_as_string()} cannot be used: {reason}") from error


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def sync_every_commit(connection: Any, record: object) -> None:
    # An accepted job must survive a power cut. With WAL, NORMAL keeps the file intact but can lose the last commits.
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _server_options(timeout_s: float, connections: int) -> dict[str, Any]:
    milliseconds = int(timeout_s * 1000)
    return {
        "pool_size": connections,
        "max_overflow": 0,
        "connect_args": {
            "connect_timeout": int(timeout_s),
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds}",
        },
        "use_native_hstore": False,  # saves a query per connection
    }
