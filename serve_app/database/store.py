"""Queries over one database, and when they may begin."""

from __future__ import annotations

from serve_app.database.engine import Database
from serve_app.database.migrate import check


class DatabaseStore:
    """A database behind a URL: `sqlite:////var/lib/service/jobs.db`, `postgresql://user@host/database`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    async def open(self) -> None:
        """Raises `SchemaOutdated` when the schema is not this version's (`migrate` makes it so)."""
        await check(self._database.writer)

    async def close(self) -> None:
        await self._database.close()
