"""The queue: account and options of a job, its log, pieces and webhook. The input moves to a separate table.

Columns are dropped at once here, not a version later: the first release supported only SQLite on one machine, so none
of its processes can still be running.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from serve_app.database.tables import now

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
CANCELLED = {
    "status": 499,
    "body": {"detail": "Request was cancelled", "error_type": "client_cancelled"},
    "headers": {
        "X-Fal-Retryable": "false",
        "X-Fal-Needs-Retry": "false",
        "X-Fal-Error-Type": "client_cancelled",
    },
}


def upgrade() -> None:
    _add_columns()
    _add_tables()
    _migrate_rows()
    for column in ("input", "cancel_requested", "message"):
        op.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    op.create_index("jobs_by_key", "jobs", ["account", "idempotency_key"], unique=True)


def _add_columns() -> None:
    for column in (
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("account", sa.String(255), nullable=False, server_default=""),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("start_by", sa.Double),
        sa.Column("hint", sa.Text),
        sa.Column("retry", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("keep_result", sa.Boolean, nullable=False, server_default=sa.true()),
        sa.Column("lifetime_s", sa.Double),
        sa.Column("webhook", sa.Text),
        sa.Column("payload", sa.JSON),
        sa.Column("result_taken", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("files_deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    ):
        op.add_column("jobs", column)


def _add_tables() -> None:
    op.create_table(
        "inputs",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("input", sa.JSON, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_job", "events", ["job_id", "number"])
    op.create_table(
        "pieces",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("piece", sa.JSON, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("expires_at", sa.Double),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("last_error", sa.Text),
    )
    op.create_index("deliveries_due", "deliveries", ["done", "next_at"])


def _migrate_rows() -> None:
    """Ends jobs with a pending cancel request, and moves the inputs of the others."""
    jobs = sa.table(
        "jobs",
        sa.column("id"),
        sa.column("state"),
        sa.column("finished_at", sa.Double),
        sa.column("owner"),
        sa.column("expires_at", sa.Double),
        sa.column("cancel_requested", sa.Boolean),
        sa.column("error", sa.JSON),
        sa.column("input", sa.JSON),
    )
    inputs = sa.table("inputs", sa.column("job_id"), sa.column("input", sa.JSON))
    alive = jobs.c.state.in_(["QUEUED", "RUNNING"])
    op.execute(
        jobs.update()
        .where(alive, jobs.c.cancel_requested)
        .values(
            state="CANCELLED",
            finished_at=now(),
            owner=None,
            expires_at=None,
            error=CANCELLED,
        )
    )
    op.execute(
        inputs.insert().from_select(["job_id", "input"], sa.select(jobs.c.id, jobs.c.input).where(alive))
    )
