"""`JobStore` on SQLAlchemy Core, with the same statements for SQLite (one machine) and Postgres (a cluster)."""

from __future__ import annotations

from serve_app.database.store import DatabaseStore
from serve_app.jobs.sql.history import HistoryQueries
from serve_app.jobs.sql.leases import LeaseQueries
from serve_app.jobs.sql.requests import RequestQueries
from serve_app.jobs.sql.retention import RetentionQueries
from serve_app.jobs.store import JobStore


class SqlJobStore(DatabaseStore, RequestQueries, HistoryQueries, LeaseQueries, RetentionQueries, JobStore):
    """The job table in a database."""
