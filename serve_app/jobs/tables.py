"""The jobs table in SQLAlchemy Core, the database's clock, and rows as value objects."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from serve_app.errors import WireError
from serve_app.jobs.store import Claim, Job, JobState, Lease, Priority, Progress


class now(FunctionElement[float]):
    """Seconds since 1970 on the database's clock: the one clock that all runners share."""

    type = Double()
    inherit_cache = True
    name = "now"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    # Milliseconds. unixepoch('subsec') would say it plainer, but needs SQLite 3.42; Debian 12 has 3.40.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    # Created order: a number, because two inserts can share a millisecond.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("owner", String(255)),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("stage", Text, nullable=False),
    Column("frames_done", BigInteger, nullable=False),
    Column("frames_total", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("input", JSON, nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Index("jobs_by_state", "state", "priority", "number"),
    sqlite_autoincrement=True,
)

# What readers load: everything but the input, which can be megabytes.
job_columns = [column for column in jobs.c if column.name != "input"]


def to_job(row: Row[Any]) -> Job:
    """A row of `job_columns` (or more) as a value object."""
    error = row.error
    return Job(
        id=row.id,
        state=JobState(row.state),
        priority=Priority(row.priority),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        owner=row.owner,
        token=row.token,
        cancel_requested=row.cancel_requested,
        progress=Progress(row.stage, row.frames_done, row.frames_total, row.message),
        result=row.result,
        error=WireError(error["status"], error["body"], error["headers"]) if error else None,
    )


def to_claim(row: Row[Any]) -> Claim:
    """A full row that was just claimed."""
    return Claim(to_job(row), Lease(row.id, row.owner, row.token, row.expires_at), row.input)
