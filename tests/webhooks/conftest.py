"""A post office: a job table of each kind, and whatever couriers a test starts over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serve_app.jobs.sql import SqlJobStore
from serve_app.storage.artifacts import Artifacts
from serve_app.webhooks.keys import KeyFile
from tests.webhooks.office import Office


@pytest_asyncio.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    store = SqlJobStore(database_url)
    await store.open()
    office = Office(
        database_url, store, Artifacts(tmp_path / "artifacts"), KeyFile(tmp_path / "data" / "keys.json")
    )
    yield office
    await office.close()
    await store.close()
