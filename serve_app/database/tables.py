"""The tables in SQLAlchemy Core, and the database's clock.

The migrations create the tables; `metadata` describes the same schema for the statements.
"""

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
    String,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):
    """Unix time in seconds on the database's clock, which all runners share."""

    type = Double()
    inherit_cache = True
    name = "now"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    # In milliseconds. unixepoch('subsec') would be plainer, but needs SQLite 3.42; Debian 12 has 3.40.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kwargs: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


metadata = MetaData()

# SQLite autoincrements only a column of type INTEGER.
_number = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    # Order of creation: a number, because two inserts can share a millisecond.
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("owner", String(255)),
    Column("token", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("expires_at", Double),
    Column("stage", Text, nullable=False),
    Column("frames_done", BigInteger, nullable=False),
    Column("frames_total", BigInteger, nullable=False),
    Column("frames_per_second", Double),
    Column("seconds_left", Double),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    # "" for no account: a unique index treats any two NULLs as different.
    Column("account", String(255), nullable=False),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("start_by", Double),
    Column("hint", Text),  # unused; to be dropped once no version that writes it can share the table
    Column("retry", Boolean, nullable=False),
    Column("keep_result", Boolean, nullable=False),
    Column("lifetime_s", Double),
    Column("webhook", Text),
    Column("files_url", Text),
    Column("payload", JSON(none_as_null=True)),
    Column("result_taken", Boolean, nullable=False),
    Column("files_deleted", Boolean, nullable=False),
    Index("jobs_by_state", "state", "priority", "number"),
    Index("jobs_by_key", "account", "idempotency_key", unique=True),
    sqlite_autoincrement=True,
)

# Separate from the jobs: an input can be a whole video, and SQLite rewrites a row with each change to it.
inputs = Table(
    "inputs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("input", JSON, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("job_id", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("level", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Index("events_of_job", "job_id", "number"),
    sqlite_autoincrement=True,
)

pieces = Table(
    "pieces",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("piece", JSON, nullable=False),
)

# The webhook of each finished job that has one; owner and expires_at are the dispatcher's lease.
deliveries = Table(
    "deliveries",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("owner", String(255)),
    Column("expires_at", Double),
    Column("done", Boolean, nullable=False),
    Column("last_error", Text),
    Index("deliveries_due", "done", "next_at"),
)

# Holds the hash of a key's secret, never the secret.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account", String(36), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
