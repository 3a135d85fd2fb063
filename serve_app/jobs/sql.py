"""`JobStore` on SQLAlchemy Core: SQLite on one machine, Postgres on a cluster; the statements know no dialect."""

from __future__ import annotations

from serve_app.jobs.engine import Database
from serve_app.jobs.schema import check
from serve_app.jobs.sql_face import HttpFace
from serve_app.jobs.sql_history import History
from serve_app.jobs.sql_runner import RunnerFace
from serve_app.jobs.sql_upkeep import Upkeep


class SqlJobStore(HttpFace, History, RunnerFace, Upkeep):
    """A job table behind a URL: `sqlite:////var/lib/service/jobs.db`, `postgresql://user@host/database`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    async def open(self) -> None:
        await check(self._database.writer)

    async def close(self) -> None:
        await self._database.close()
