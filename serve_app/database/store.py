"""The base class of stores: one database, opened with a check of its schema."""

from __future__ import annotations

from serve_app.database.engine import Database
from serve_app.database.migrate import check


class DatabaseStore:
    """A store at a database URL: `sqlite:////var/lib/service/jobs.db`, `postgresql://user@host/database`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    async def open(self) -> None:
        """Raises `SchemaOutdated` if the schema is older than this version (`migrate` updates it)."""
        await check(self._database.writer)

    async def close(self) -> None:
        await self._database.close()
