"""Connections: one place for what a dialect needs before the first statement.

Reads and writes have connections of their own. Reads are in autocommit mode: one round trip, without BEGIN and
ROLLBACK around it. SQLite has one writer at a time: here the writers of a process queue up for a single
connection, in order and without polling for the lock; other processes are waited for by SQLite itself.
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

BUSY_S = 10.0
READ_S = 3.0
CONNECTIONS = 4  # of a process to a server, for writing
P = ParamSpec("P")
T = TypeVar("T")
Rows = Sequence[Row[*tuple[Any, ...]]]
Parameters = Mapping[str, Any] | None


class Database:
    """What the statements run on. Connects on first use only."""

    def __init__(self, url: str) -> None:
        parsed = parse(url)
        self.writer: AsyncEngine
        self._working: set[asyncio.Task[Any]] = set()
        if is_sqlite(parsed):
            options: dict[str, Any] = {"connect_args": {"timeout": BUSY_S}}
            self._reader, self._scanner = _Reader(parsed, options), _Reader(parsed, options)
            self.writer = create_async_engine(
                parsed.set(drivername="sqlite+aiosqlite"),
                pool_size=1,
                max_overflow=0,
                connect_args={"timeout": BUSY_S, "isolation_level": "IMMEDIATE"},
            )
            event.listen(self.writer.sync_engine, "connect", on_sqlite_connect)
        else:
            self._reader = _Reader(parsed, _server_options(READ_S, 1))
            self._scanner = _Reader(parsed, _server_options(BUSY_S, 1))
            self.writer = create_async_engine(
                parsed, **_server_options(BUSY_S, CONNECTIONS), pool_pre_ping=True
            )

    async def read(self, statement: Executable, parameters: Parameters = None) -> Rows:
        """The rows of a look-up: a statement that only reads, and little."""
        return self._reader.read(statement, parameters)

    async def scan(self, statement: Executable, parameters: Parameters = None) -> Rows:
        """The rows of a statement that may read much: in a thread, on a connection of its own."""
        return await asyncio.to_thread(self._scanner.read, statement, parameters)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction. Its first statement has to write, so that it never has to upgrade a read lock."""
        return self.writer.begin()

    async def run_to_completion(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which goes on to its end when the caller is cancelled."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        if self._working:
            await asyncio.wait(self._working)
        self._reader.close()
        self._scanner.close()
        await self.writer.dispose()


def uninterrupted(
    write: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """For methods that write: what was begun is seen through, whatever becomes of the caller.

    Clients hang up at any moment, and a transaction that is cancelled in the middle keeps its lock until its connection
    is collected: ten seconds for all other writers of a file.
    """

    @wraps(write)
    async def wrapper(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        database: Database = self._database
        return await database.run_to_completion(write(self, *args, **kwargs))

    return wrapper


class _Reader:
    """Reads on the event loop's own thread, one connection at a time.

    A look-up takes 0.1 ms in a file (with WAL no read waits for a lock) and a round trip to a server. Awaiting it
    would cost more under load: each turn of a busy loop is milliseconds (status calls at the highest rate, measured:
    1 ms in the handler instead of 10 with SQLite, 4 instead of 22 with Postgres). A server that hangs holds the loop
    for `READ_S` at most.
    """

    def __init__(self, url: URL, options: dict[str, Any]) -> None:
        self._engine: Engine = create_engine(
            url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None, **options
        )

    def read(self, statement: Executable, parameters: Parameters) -> Rows:
        try:
            return self._read(statement, parameters)
        except DBAPIError as error:
            # Nobody asks a connection whether it is still alive before a read: one that broke is replaced.
            if not error.connection_invalidated:
                raise
            return self._read(statement, parameters)

    def close(self) -> None:
        self._engine.dispose()

    def _read(self, statement: Executable, parameters: Parameters) -> Rows:
        with self._engine.connect() as connection:
            return connection.execute(statement, parameters).all()


def parse(url: str) -> URL:
    """A URL whose driver may be left out, checked; `SetupError` says what is possible."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SetupError("the database is no URL: use sqlite:///PATH or postgresql://…") from error
    backend = parsed.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise SetupError(f"database {backend!r} is not supported; use sqlite:///PATH or postgresql://…")
    path = parsed.database or ""
    if not path or path == ":memory:" or path.startswith("file:"):
        # Each connection would see a database of its own.
        raise SetupError("the job table needs a file: use sqlite:///PATH, not an in-memory database")
    return parsed.set(drivername="sqlite")


@contextmanager
def reaching(url: URL) -> Iterator[None]:
    """A database that does not answer is a matter of setting up, told in one line (and never with its password)."""
    try:
        yield
    except (OperationalError, OSError) as error:
        reason = str(error.orig if isinstance(error, OperationalError) else error).strip().split("\n")[0]
        raise SetupError(f"the database {url.render_as_string()} cannot be used: {reason}") from error


def is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def on_sqlite_connect(connection: Any, record: object) -> None:
    # What was accepted has to survive a power cut. With WAL, NORMAL keeps the file sound, but loses the last commits.
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _server_options(patience_s: float, connections: int) -> dict[str, Any]:
    milliseconds = int(patience_s * 1000)
    return {
        "pool_size": connections,
        "max_overflow": 0,
        "connect_args": {
            "connect_timeout": int(patience_s),
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds}",
        },
        "use_native_hstore": False,  # saves a look-up per connection
    }
