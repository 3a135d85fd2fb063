"""The version of the database schema: `migrate` updates it, `check` verifies it.

Version numbers increase. Migrations expand first and contract a release later, so that two releases can share one
database during a cluster's upgrade: code accepts any schema that is not older than itself.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from serve_app.database.engine import BUSY_TIMEOUT_S, is_sqlite, parse, sync_every_commit, translated_errors
from serve_app.errors import SchemaOutdated

VERSION = "0004"
FIRST = "0001"  # the schema of the release that recorded no version
LOCK = 0x6269726566  # key of the advisory lock
REMEDY = "run `birefnet-serve migrate --config …` with the profile of this service"


def migrate(url: str) -> str:
    """Creates the tables or updates them to this version, and returns the version reached.

    Safe to run in several processes at once: one migrates, the others wait. Raises `SetupError` if the database cannot
    be used.
    """
    parsed = parse(url)
    with translated_errors(parsed):
        return _migrate_file(parsed) if is_sqlite(parsed) else _migrate_server(parsed)


async def check(engine: AsyncEngine) -> None:
    """Raises `SchemaOutdated` if the schema is missing or older than this version."""
    if is_sqlite(engine.url) and not Path(engine.url.database or "").exists():
        raise SchemaOutdated(f"the job table {engine.url.database} does not exist yet: {REMEDY}")
    with translated_errors(engine.url):
        async with engine.connect() as connection:
            found = await connection.run_sync(_version)
    if found is None:
        raise SchemaOutdated(f"the job table has no known version: {REMEDY}")
    if found < VERSION:
        raise SchemaOutdated(f"the job table has version {found}, this program needs {VERSION}: {REMEDY}")


def _migrate_server(url: URL) -> str:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        return _upgrade(connection)


def _migrate_file(url: URL) -> str:
    path = Path(url.database or "")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the data directory: requests and results
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})
    with _file_lock(path):
        _enable_wal(engine)
        event.listen(engine, "connect", sync_every_commit)
        event.listen(engine, "connect", _disable_driver_transactions)
        event.listen(engine, "begin", _begin)
        with engine.begin() as connection:
            return _upgrade(connection)


def _upgrade(connection: Connection) -> str:
    found = _version(connection)
    if found is not None and found >= VERSION:
        return found
    from alembic import command  # imported here because replicas use this module only to check
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    if found is None and inspect(connection).has_table("jobs"):
        command.stamp(config, FIRST)
    command.upgrade(config, VERSION)
    return VERSION


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(found) if found is not None else None


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """A lock file next to the database: SQLite's own locks cannot span the switch to WAL. The kernel releases it."""
    with path.with_name(f"{path.name}.migrate").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _enable_wal(engine: Engine) -> None:
    """Switches the file to WAL, permanently. The switch does not wait for other processes' locks, so it is retried."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _disable_driver_transactions(connection: object, record: object) -> None:
    # The driver begins no transaction for DDL; `_begin` does, which makes a migration atomic.
    connection.isolation_level = None  # type: ignore[attr-defined]


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
