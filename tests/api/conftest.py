"""A fresh job table, and an application over it, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve_app.jobs.sql import SqlJobStore
from serve_app.storage.artifacts import Artifacts
from tests.api.desk import Bench


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    store = SqlJobStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def bench(store: SqlJobStore, artifacts: Artifacts) -> Bench:
    return Bench(store, artifacts)
