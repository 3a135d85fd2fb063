"""A job table on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from serve_app.jobs.sql.store import SqlJobStore


@pytest_asyncio.fixture
async def store(database_url: str) -> AsyncIterator[SqlJobStore]:
    store = SqlJobStore(database_url)
    await store.open()
    yield store
    await store.close()
