"""A key table in each database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from serve_app.accounts.keys import KeyTable


@pytest_asyncio.fixture
async def table(database_url: str) -> AsyncIterator[KeyTable]:
    table = KeyTable(database_url)
    await table.open()
    yield table
    await table.close()
