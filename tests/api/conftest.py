"""A fresh job table and an application over it for each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve_app.artifacts.store import Artifacts
from serve_app.database.migrate import migrate
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import ApiHarness


@pytest.fixture(scope="session")
def empty_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "jobs.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest_asyncio.fixture
async def store(tmp_path: Path, empty_table: Path) -> AsyncIterator[SqlJobStore]:
    path = shutil.copy(empty_table, tmp_path / "jobs.db")
    store = SqlJobStore(f"sqlite:///{path}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def harness(store: SqlJobStore, artifacts: Artifacts) -> ApiHarness:
    return ApiHarness(store, artifacts)
