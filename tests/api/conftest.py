"""A fresh job table, and an application over it, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve_app.jobs.sql import SqlJobStore
from tests.api.bench import Bench


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    store = SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def bench(store: SqlJobStore) -> Bench:
    return Bench(store)
