"""A job table, its artifacts, and runners on them, whose stages are never reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve_app.artifacts.store import Artifacts
from serve_app.files.signing import Signer
from serve_app.jobs.model import Job, NewJob
from serve_app.jobs.request import JobRequest
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.runner.loop import RunnerLoop
from serve_app.settings import FetchSettings, RunnerSettings, Settings
from tests.waiting import PATIENCE_S

SIGNER = Signer(b"the secret of the tests")


class RunnerHarness:
    """A job table, its artifacts, and runners on them."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.settings = Settings(
            data_dir=directory,
            fetch=FetchSettings(allow_private=True),  # sources are on loopback
            runner=RunnerSettings(poll_s=0.02, **options),
        )
        self.store = SqlJobStore(self.settings.database_url)
        self.artifacts = Artifacts(self.settings.artifacts_url)

    def runner(self) -> RunnerLoop:
        stages: Any = None  # never reached
        return RunnerLoop(self.settings, self.store, stages, self.artifacts, SIGNER)

    async def submit(self, url: str, **options: Any) -> None:
        await self.store.insert(NewJob("job", JobRequest(url).as_json(), **options))

    async def log(self) -> list[str]:
        return [event.message for event in await self.store.events("job")]

    async def until(self, wanted: Callable[[Job], bool]) -> Job:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                job = await self.store.get("job")
                assert job is not None
                if wanted(job):
                    return job
                await asyncio.sleep(0.01)


def files(harness: RunnerHarness) -> list[str]:
    root = harness.artifacts.root
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
