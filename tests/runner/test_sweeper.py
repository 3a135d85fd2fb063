"""The sweeper, on a real job table and real files: what goes, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.database.migrate import migrate
from serve_app.errors import DownloadFailed, to_wire
from serve_app.jobs.model import Claim, NewJob
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.runner.sweeper import Sweeper
from serve_app.settings import ExpirySettings
from tests.jobs.steps import newest

PAST = 1e-6  # seconds after a job's end


@dataclass
class Yard:
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

    def put(self, name: str) -> None:
        self.artifacts.put_bytes(name, b"bytes")

    def files(self) -> list[str]:
        root = self.artifacts.root
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    migrate(url)
    store = SqlJobStore(url)
    await store.open()
    yield Yard(store, Artifacts(tmp_path / "artifacts"))
    await store.close()


async def test_nothing_goes_before_its_time(yard: Yard) -> None:
    await yard.completed("one")
    await yard.claimed("two")
    await yard.sweep()
    assert yard.files() == ["outputs/one/1/output.mp4", "outputs/two/1/output.mp4", "work/two/source"]
    assert await yard.store.get("one") is not None


async def test_files_go_before_the_row(yard: Yard) -> None:
    await yard.completed("one")
    await yard.sweep(files_s=PAST)
    assert yard.files() == []
    job = await yard.store.get("one")
    assert job is not None and job.result == {"video": "one"}
    await yard.sweep(files_s=PAST, jobs_s=PAST)
    assert await yard.store.get("one") is None
    assert await yard.store.events("one") == []


async def test_a_row_stays_while_its_files_do(yard: Yard) -> None:
    await yard.completed("one")
    await yard.sweep(jobs_s=PAST)
    assert await yard.store.get("one") is not None
    assert yard.files() == ["outputs/one/1/output.mp4"]


async def test_a_request_may_set_the_lifetime_of_its_files(yard: Yard) -> None:
    await yard.completed("short", lifetime_s=PAST)
    await yard.completed("ever", lifetime_s=float("inf"))
    await yard.sweep(files_s=None)
    assert yard.files() == ["outputs/ever/1/output.mp4"]
    await yard.sweep(files_s=PAST, jobs_s=PAST)
    assert yard.files() == ["outputs/ever/1/output.mp4"]
    assert await yard.store.get("ever") is not None


async def test_a_result_that_was_not_to_be_kept_goes_and_its_files_stay(yard: Yard) -> None:
    await yard.completed("one", keep_result=False)
    await yard.completed("two")
    await yard.sweep(unkept_s=PAST)
    one, two = await yard.store.get("one"), await yard.store.get("two")
    assert one is not None and one.result is None
    assert two is not None and two.result is not None
    assert yard.files() == ["outputs/one/1/output.mp4", "outputs/two/1/output.mp4"]


async def test_what_a_killed_holder_of_a_cancelled_job_left_goes_when_its_lease_is_over(yard: Yard) -> None:
    await yard.claimed("alive", lease_s=60.0)
    await yard.store.request_cancel("alive")
    await yard.claimed("dead", lease_s=0.0)
    await yard.store.request_cancel("dead")
    await yard.sweep()
    assert yard.files() == ["outputs/alive/1/output.mp4", "work/alive/source"]


async def test_late_writes_for_jobs_that_are_over_or_unknown_go(yard: Yard) -> None:
    await yard.completed("done")
    claim = await yard.claimed("failed")
    await yard.store.fail(claim.lease, to_wire(DownloadFailed("no")))
    await yard.claimed("running")
    for name in ("done", "unknown"):
        yard.put(f"work/{name}/pieces/000001")
    await yard.sweep()
    assert yard.files() == [
        "outputs/done/1/output.mp4",
        "outputs/running/1/output.mp4",
        "work/running/source",
    ]


async def test_sweepers_may_meet(yard: Yard) -> None:
    for n in range(20):
        await yard.completed(f"job-{n}")
    for _ in range(2):  # files first, rows in the next round
        await asyncio.gather(*(yard.sweep(files_s=PAST, jobs_s=PAST) for _ in range(4)))
    assert yard.files() == []
    assert await newest(yard.store, 100) == []
