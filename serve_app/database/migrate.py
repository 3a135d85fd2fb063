"""The schema of the job table: `migrate` brings it to this version, `check` only looks.

Versions are numbers that grow. Migrations expand first and contract a release later, so two releases can share one
database while a cluster is upgraded: code takes any schema that is not older than itself.
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

from serve_app.database.engine import BUSY_S, is_sqlite, on_sqlite_connect, parse, reaching
from serve_app.errors import SchemaOutdated

VERSION = "0004"
FIRST = "0001"  # of the release that kept no version
LOCK = 0x6269726566  # the number of our advisory lock
REMEDY = "run `birefnet-serve migrate --config …` with the profile of this service"


def migrate(url: str) -> str:
    """Create the job table or bring it to this version, and return the version reached.

    Safe when several processes start at once: one of them works, the others wait and find it done.
    """
    parsed = parse(url)
    with reaching(parsed):
        return _migrate_file(parsed) if is_sqlite(parsed) else _migrate_server(parsed)


async def check(engine: AsyncEngine) -> None:
    """Raise `SchemaOutdated` unless the schema is this version's or a later one."""
    if is_sqlite(engine.url) and not Path(engine.url.database or "").exists():
        raise SchemaOutdated(f"the job table {engine.url.database} does not exist yet: {REMEDY}")
    with reaching(engine.url):
        async with engine.connect() as connection:
            found = await connection.run_sync(_version)
    if found is None:
        raise SchemaOutdated(f"the database has no job table of a known version: {REMEDY}")
    if found < VERSION:
        raise SchemaOutdated(f"the job table has version {found}, this program needs {VERSION}: {REMEDY}")


def _migrate_server(url: URL) -> str:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        return _upgrade(connection)


def _migrate_file(url: URL) -> str:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})
    with _file_lock(path):
        _write_ahead(engine)
        event.listen(engine, "connect", on_sqlite_connect)
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin)
        with engine.begin() as connection:
            return _upgrade(connection)


def _upgrade(connection: Connection) -> str:
    found = _version(connection)
    if found is not None and found >= VERSION:
        return found
    from alembic import command  # here, because replicas import this module only to check
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
    """Beside the database, because SQLite's own locks cannot span the switch to WAL. The system frees it at any end."""
    with path.with_name(f"{path.name}.migrate").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_ahead(engine: Engine) -> None:
    """Switch the file to WAL (it stays so). The switch does not wait for other processes: try again."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _leave_transactions_to_us(connection: object, record: object) -> None:
    # By itself the driver begins no transaction for DDL; with ours a migration is done whole or not at all.
    connection.isolation_level = None  # type: ignore[attr-defined]


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
