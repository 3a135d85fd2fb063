"""A webhook harness on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.webhooks.signing_keys import KeyFile
from tests.webhooks.harness import WebhookHarness


@pytest_asyncio.fixture
async def harness(database_url: str, tmp_path: Path) -> AsyncIterator[WebhookHarness]:
    store = SqlJobStore(database_url)
    await store.open()
    harness = WebhookHarness(
        database_url, store, Artifacts(tmp_path / "artifacts"), KeyFile(tmp_path / "data" / "keys.json")
    )
    yield harness
    await harness.close()
    await store.close()
