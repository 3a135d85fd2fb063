"""The sweeper, on a real job table and real files: what goes, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from serve_app.artifacts.store import Artifacts
from serve_app.database.migrate import migrate
from serve_app.database.tables import jobs
from serve_app.errors import DownloadFailed, to_wire
from serve_app.jobs.model import Claim, NewJob
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.runner.sweeper import Sweeper
from serve_app.settings import ExpirySettings
from tests.jobs.steps import newest

OVER_S = 100.0  # since the jobs here have ended
PAST = 50.0


@dataclass
class SweeperHarness:
    """A job table with its artifacts, and jobs in it that were over some time ago."""

    store: SqlJobStore
    artifacts: Artifacts

    async def sweep(self, **expiry: float | None) -> None:
        await Sweeper(ExpirySettings(**expiry), self.store, self.artifacts).sweep()

    async def claimed(self, name: str, lease_s: float = 60.0, **options: Any) -> Claim:
        await self.store.insert(NewJob(name, {}, **options))
        (claim,) = await self.store.claim("runner", lease_s, 1)
        self.put(f"work/{name}/source")
        self.put(f"outputs/{name}/1/output.mp4")
        return claim

    async def completed(self, name: str, **options: Any) -> None:
        claim = await self.claimed(name, **options)
        self.artifacts.delete_prefix(f"work/{name}")
        assert await self.store.complete(claim.lease, {"video": name})
        async with self.store._database.writing() as connection:
            ended = update(jobs).where(jobs.c.id == name).values(finished_at=jobs.c.finished_at - OVER_S)
            await connection.execute(ended)

    def put(self, name: str) -> None:
        self.artifacts.put_bytes(name, b"bytes")

    def files(self) -> list[str]:
        root = self.artifacts.root
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[SweeperHarness]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    migrate(url)
    store = SqlJobStore(url)
    await store.open()
    yield SweeperHarness(store, Artifacts(tmp_path / "artifacts"))
    await store.close()


async def test_nothing_goes_before_its_time(harness: SweeperHarness) -> None:
    await harness.completed("one")
    await harness.claimed("two")
    await harness.sweep()
    assert harness.files() == ["outputs/one/1/output.mp4", "outputs/two/1/output.mp4", "work/two/source"]
    assert await harness.store.get("one") is not None


async def test_files_go_before_the_row(harness: SweeperHarness) -> None:
    await harness.completed("one")
    await harness.sweep(files_s=PAST)
    assert harness.files() == []
    job = await harness.store.get("one")
    assert job is not None and job.result == {"video": "one"}
    await harness.sweep(files_s=PAST, jobs_s=PAST)
    assert await harness.store.get("one") is None
    assert await harness.store.events("one") == []


async def test_a_row_stays_while_its_files_do(harness: SweeperHarness) -> None:
    await harness.completed("one")
    await harness.sweep(jobs_s=PAST)
    assert await harness.store.get("one") is not None
    assert harness.files() == ["outputs/one/1/output.mp4"]


async def test_a_request_may_set_the_lifetime_of_its_files(harness: SweeperHarness) -> None:
    await harness.completed("short", lifetime_s=PAST)
    await harness.completed("ever", lifetime_s=float("inf"))
    await harness.sweep(files_s=None)
    assert harness.files() == ["outputs/ever/1/output.mp4"]
    await harness.sweep(files_s=PAST, jobs_s=PAST)
    assert harness.files() == ["outputs/ever/1/output.mp4"]
    assert await harness.store.get("ever") is not None


async def test_a_result_that_was_not_to_be_kept_goes_and_its_files_stay(harness: SweeperHarness) -> None:
    await harness.completed("one", keep_result=False)
    await harness.completed("two")
    await harness.sweep(unkept_s=PAST)
    one, two = await harness.store.get("one"), await harness.store.get("two")
    assert one is not None and one.result is None
    assert two is not None and two.result is not None
    assert harness.files() == ["outputs/one/1/output.mp4", "outputs/two/1/output.mp4"]


async def test_files_of_a_cancelled_job_whose_runner_died_go_when_its_lease_is_over(
    harness: SweeperHarness,
) -> None:
    await harness.claimed("alive", lease_s=60.0)
    await harness.store.request_cancel("alive")
    await harness.claimed("dead", lease_s=-1.0)
    await harness.store.request_cancel("dead")
    await harness.sweep()
    assert harness.files() == ["outputs/alive/1/output.mp4", "work/alive/source"]


async def test_late_writes_for_jobs_that_are_over_or_unknown_go(harness: SweeperHarness) -> None:
    await harness.completed("done")
    claim = await harness.claimed("failed")
    await harness.store.fail(claim.lease, to_wire(DownloadFailed("no")))
    await harness.claimed("running")
    for name in ("done", "unknown"):
        harness.put(f"work/{name}/pieces/000001")
    await harness.sweep()
    assert harness.files() == [
        "outputs/done/1/output.mp4",
        "outputs/running/1/output.mp4",
        "work/running/source",
    ]


async def test_sweepers_may_meet(harness: SweeperHarness) -> None:
    for n in range(20):
        await harness.completed(f"job-{n}")
    for _ in range(2):  # files first, rows in the next round
        await asyncio.gather(*(harness.sweep(files_s=PAST, jobs_s=PAST) for _ in range(4)))
    assert harness.files() == []
    assert await newest(harness.store, 100) == []
