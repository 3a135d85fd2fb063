"""`JobStore` on SQLAlchemy Core: SQLite on one machine, Postgres on a cluster; the statements know no dialect."""

from __future__ import annotations

from serve_app.database.engine import Database
from serve_app.database.migrate import check
from serve_app.jobs.sql.history import HistoryQueries
from serve_app.jobs.sql.leases import LeaseQueries
from serve_app.jobs.sql.requests import RequestQueries
from serve_app.jobs.sql.retention import RetentionQueries
from serve_app.jobs.store import JobStore


class SqlJobStore(RequestQueries, HistoryQueries, LeaseQueries, RetentionQueries, JobStore):
    """A job table behind a URL: `sqlite:////var/lib/service/jobs.db`, `postgresql://user@host/database`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    async def open(self) -> None:
        await check(self._database.writer)

    async def close(self) -> None:
        await self._database.close()
