"""Database engines: one place for what a dialect needs before the first statement."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from serve_app.jobs.tables import jobs

BUSY_S = 10.0
DRIVERS = {"sqlite": "sqlite+aiosqlite"}


def make_engine(url: str) -> AsyncEngine:
    """An engine for `url`, whose driver may be left out; connects on first use only."""
    parsed = make_url(url)
    driver = DRIVERS.get(parsed.get_backend_name())
    if driver is None:
        raise ValueError(f"database {parsed.get_backend_name()!r} is not supported; use sqlite:///PATH")
    parsed = parsed.set(drivername=driver)
    if not _file_of(parsed):
        # Each connection would see a database of its own.
        raise ValueError("the job table needs a file: use sqlite:///PATH, not an in-memory database")
    engine = create_async_engine(parsed, connect_args={"timeout": BUSY_S})
    event.listen(engine.sync_engine, "connect", _on_connect)
    return engine


async def prepare(engine: AsyncEngine) -> None:
    """Create what is missing; safe when several processes start at once."""
    Path(_file_of(engine.url)).parent.mkdir(parents=True, exist_ok=True)
    await _write_ahead(engine)
    async with engine.begin() as connection:
        await connection.execute(CreateTable(jobs, if_not_exists=True))
        for index in jobs.indexes:
            await connection.execute(CreateIndex(index, if_not_exists=True))


def _file_of(url: URL) -> str:
    path = url.database or ""
    return "" if path == ":memory:" or path.startswith("file:") else path


def _on_connect(connection: Any, record: object) -> None:
    # With WAL, NORMAL keeps the file sound at any crash; only power loss can take the last commits back.
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


async def _write_ahead(engine: AsyncEngine) -> None:
    """Switch the file to WAL (it stays so). The switch does not wait for other processes: try again."""
    deadline = asyncio.get_running_loop().time() + BUSY_S
    while True:
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)
