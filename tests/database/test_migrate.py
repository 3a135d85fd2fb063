"""Migrations: creation, upgrades, concurrency, atomicity, the version check and the command line."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner

from serve_app.cli.main import app
from serve_app.database import migrate as schema
from serve_app.database.engine import is_sqlite, parse
from serve_app.database.migrate import VERSION, migrate
from serve_app.database.tables import metadata
from serve_app.errors import SchemaOutdated, SetupError
from serve_app.jobs.model import CancelOutcome, JobState, Progress
from serve_app.jobs.sql.store import SqlJobStore
from tests.jobs.steps import LEASE_S, get_job, log_lines, submit

FIRST_RELEASE = """
CREATE TABLE jobs (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, priority INTEGER NOT NULL, created_at DOUBLE NOT NULL,
    started_at DOUBLE, finished_at DOUBLE, owner VARCHAR(255), token BIGINT NOT NULL, expires_at DOUBLE,
    cancel_requested BOOLEAN NOT NULL, stage TEXT NOT NULL, frames_done BIGINT NOT NULL,
    frames_total BIGINT NOT NULL, message TEXT NOT NULL, input JSON NOT NULL, result JSON, error JSON,
    UNIQUE (id)
);
CREATE INDEX jobs_by_state ON jobs (state, priority, number);
INSERT INTO jobs (id, state, priority, created_at, started_at, finished_at, owner, token, expires_at,
                  cancel_requested, stage, frames_done, frames_total, message, input, result, error) VALUES
  ('done', 'COMPLETED', 0, 1.5, 2.5, 3.5, NULL, 1, NULL, 0, 'joining', 9, 9, 'joined', '{}', '{"x": 1}', NULL),
  ('failed', 'FAILED', 0, 1.5, 2.5, 3.5, NULL, 1, NULL, 0, '', 0, 0, '', '{}', NULL,
   '{"status": 422, "body": {"detail": "no"}, "headers": {"a": "b"}}'),
  ('running', 'RUNNING', 0, 1.5, 2.5, NULL, 'old', 1, 4.5, 0, 'segmenting', 3, 9, 'chunk 1', '{"n": 1}', NULL, NULL),
  ('queued', 'QUEUED', 1, 1.5, NULL, NULL, NULL, 0, NULL, 0, '', 0, 0, '', '{"n": 2}', NULL, NULL),
  ('unwanted', 'RUNNING', 0, 1.5, 2.5, NULL, 'old', 1, 4.5, 1, '', 0, 0, '', '{"n": 3}', NULL, NULL);
"""


@pytest.fixture
def first_release(tmp_path: Path) -> str:
    """A database of the first release: no schema version, jobs in every state."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_RELEASE)
    return f"sqlite:///{path}"


def set_version(url: str, version: str) -> None:
    with create_engine(parse(url), poolclass=NullPool).begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))


def test_the_migrations_create_the_schema_of_the_statements(database_url: str) -> None:
    with create_engine(parse(database_url), poolclass=NullPool).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_version_is_that_of_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [VERSION]
    # `check` compares versions, which must therefore increase.
    versions = [revision.revision for revision in script.walk_revisions()]
    assert versions == sorted(versions, reverse=True) and all(len(version) == 4 for version in versions)


async def test_open_does_not_change_the_schema(empty_database_url: str) -> None:
    store = SqlJobStore(empty_database_url)
    with pytest.raises(SchemaOutdated, match="birefnet-serve migrate --config"):
        await store.open()
    await store.close()
    if empty_database_url.startswith("sqlite"):
        assert not Path(parse(empty_database_url).database or "").exists()
    assert migrate(empty_database_url) == VERSION
    store = SqlJobStore(empty_database_url)
    await store.open()
    await submit(store, "one")
    await store.close()


async def test_an_older_schema_is_refused_and_a_newer_one_accepted(database_url: str) -> None:
    store = SqlJobStore(database_url)
    set_version(database_url, "0001")
    with pytest.raises(SchemaOutdated, match=f"version 0001, this program needs {VERSION}"):
        await store.open()
    set_version(database_url, "9999")
    await store.open()
    await submit(store, "one")
    await store.close()
    assert migrate(database_url) == "9999"


def test_migrating_again_changes_nothing(database_url: str) -> None:
    assert migrate(database_url) == VERSION
    assert migrate(database_url) == VERSION


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").touch()
    store = SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    with pytest.raises(SchemaOutdated):
        await store.open()
    await store.close()


async def test_the_table_of_the_first_release_is_migrated(first_release: str) -> None:
    old = SqlJobStore(first_release)
    with pytest.raises(SchemaOutdated):
        await old.open()
    await old.close()
    assert migrate(first_release) == VERSION
    store = SqlJobStore(first_release)
    await store.open()
    done = await get_job(store, "done", JobState.COMPLETED)
    assert done.result == {"x": 1} and done.progress == Progress("joining", 9, 9)
    assert (done.number, done.created_at, done.finished_at, done.account) == (1, 1.5, 3.5, None)
    failed = await get_job(store, "failed", JobState.FAILED)
    assert failed.error is not None and (failed.error.status, failed.error.headers) == (422, {"a": "b"})

    unwanted = await get_job(store, "unwanted", JobState.CANCELLED)
    assert unwanted.error is not None and unwanted.error.status == 499 and unwanted.finished_at is not None
    assert await store.unfinished(["unwanted"]) == set()

    claims = await store.claim("new", LEASE_S, 10)
    assert [(claim.job.id, claim.input, claim.lease.token) for claim in claims] == [
        ("running", {"n": 1}, 2),
        ("queued", {"n": 2}, 1),
    ]
    assert await store.complete(claims[0].lease, {})
    assert await log_lines(store, "running") == [("INFO", "completed")]
    assert await store.request_cancel("done") is CancelOutcome.ALREADY_TERMINAL
    await submit(store, "next")
    assert (await get_job(store, "next")).number == 6
    await store.close()


@pytest.fixture
def version_3(empty_database_url: str) -> str:
    """A database of version 3, before progress had a rate: a running job with a finished piece."""
    url = parse(empty_database_url)
    if is_sqlite(url):
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with create_engine(url, poolclass=NullPool).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        connection.execute(
            text(
                "INSERT INTO jobs (id, state, priority, created_at, started_at, owner, token, attempts, expires_at, "
                "stage, frames_done, frames_total, account, retry, keep_result, result_taken, files_deleted) VALUES "
                "('running', 'RUNNING', 0, 1.5, 2.5, 'old', 1, 1, 4.5, 'segmenting', 24, 48, '', "
                "true, true, false, false)"
            )
        )
        connection.execute(text("INSERT INTO inputs (job_id, input) VALUES ('running', '{\"n\": 1}')"))
        connection.execute(text("INSERT INTO pieces VALUES ('running', 0, '{\"start\": null}')"))
    return empty_database_url


async def test_a_table_of_version_3_is_migrated(version_3: str) -> None:
    assert migrate(version_3) == VERSION
    store = SqlJobStore(version_3)
    await store.open()
    job = await get_job(store, "running", JobState.RUNNING)
    assert job.progress == Progress("segmenting", 24, 48, None, None)
    (claim,) = await store.claim("new", LEASE_S, 10)
    assert (claim.input, claim.lease.token) == ({"n": 1}, 2)
    assert await store.pieces("running") == {0: {"start": None}}
    assert await store.report(claim.lease, Progress("segmenting", 30, 48, 6.0, 3.0))
    assert (await get_job(store, "running")).progress == Progress("segmenting", 30, 48, 6.0, 3.0)
    await store.close()


def migrate_concurrently(url: str) -> list[str]:
    """The versions that four concurrent migrations report."""
    together = threading.Barrier(4)

    def start() -> str:
        together.wait(timeout=60)
        return migrate(url)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(start) for _ in range(4)]
        return [future.result(timeout=60) for future in futures]


def test_concurrent_migrations_create_one_table(empty_database_url: str) -> None:
    assert migrate_concurrently(empty_database_url) == [VERSION] * 4


def test_concurrent_migrations_migrate_the_first_release_once(first_release: str) -> None:
    assert migrate_concurrently(first_release) == [VERSION] * 4


def test_a_migration_is_atomic(first_release: str) -> None:
    """An existing index of the same name makes it fail near its end."""
    path = first_release.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE other (x); CREATE INDEX jobs_by_key ON other (x)")
        before = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        with pytest.raises(SetupError, match="jobs_by_key already exists"):
            migrate(first_release)
        assert connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
        connection.executescript("DROP TABLE other")
    assert migrate(first_release) == VERSION


async def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    migrate(url)
    store = SqlJobStore(url)
    async with store._database.writing() as connection:
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar() == 10_000
    await store.close()


async def test_switching_to_wal_mode_waits_for_a_writer(tmp_path: Path) -> None:
    """SQLite's busy timeout does not cover this switch: it fails at once."""
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE other (x)")
        other.execute("BEGIN IMMEDIATE")
        migrating = asyncio.create_task(asyncio.to_thread(migrate, f"sqlite:///{path}"))
        done, _ = await asyncio.wait({migrating}, timeout=0.2)
        assert not done
        other.execute("COMMIT")
        assert await migrating == VERSION


def test_a_path_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"file/jobs\.db cannot be used"):
        migrate(f"sqlite:///{tmp_path / 'file' / 'jobs.db'}")


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "profile.yaml"
    application = {"import_path": "serve_app.app:build", "args": {"data_dir": str(tmp_path / "unused")}}
    profile.write_text(json.dumps({"applications": [application]}))
    # Alembic reads this file from the working directory; our command must not.
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["migrate", "--config", str(profile), "--data-dir", str(tmp_path / "data")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and VERSION in result.output
    assert (tmp_path / "data" / "jobs.sqlite").exists() and not (tmp_path / "unused").exists()
    monkeypatch.setenv("BIREFNET_DATABASE", "mysql://host/db")
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_new_data_directory_is_its_owners_alone(tmp_path: Path) -> None:
    migrate(f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite'}")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
