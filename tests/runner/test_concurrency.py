"""What the jobs of a runner may have in flight follows from weights and replicas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serve_app.fal import Variant
from serve_app.runner.concurrency import Capacity, Places
from serve_app.runner.pool import Holding, Pool
from serve_app.settings import RunnerSettings, Scale, SegmenterSettings, Settings, Stage

MIB = 1 << 20


async def granted(pool: Pool, places: Places, amount: int, tries: int = 100) -> list[Holding]:
    """What a job is granted at once of so many requests."""
    tasks = [asyncio.create_task(pool.acquire(places.claimant, amount)) for _ in range(tries)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    done = [task.result() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


def settings_of(directory: Path, replicas: int = 8, runners: int = 1, target: float = 1.0) -> Settings:
    return Settings(
        data_dir=directory,
        runner=RunnerSettings(max_object_bytes=1024 * MIB, replicas=runners),
        decoder=Stage(scale=Scale(max_replicas=3, max_ongoing=2)),
        segmenter=SegmenterSettings(scale=Scale(max_replicas=replicas, target=target)),
    )


@pytest.mark.parametrize(("weight", "chunks"), [(1, 100), (100, 10), (300, 3), (2000, 2)])
async def test_chunks_count_by_what_they_weigh(tmp_path: Path, weight: int, chunks: int) -> None:
    """Chunks of tiny pictures are not counted as if they were of the largest size, and large ones not as less."""
    with Capacity(settings_of(tmp_path)).places(Variant.LIGHT, 0, 1.0) as places:
        assert len(await granted(places.memory, places, weight * MIB)) == chunks


async def test_all_models_share_the_memory(tmp_path: Path) -> None:
    capacity = Capacity(settings_of(tmp_path))
    with capacity.places(Variant.LIGHT, 0, 1.0) as one, capacity.places(Variant.MATTING, 0, 2.0) as other:
        assert len(await granted(one.memory, one, 100 * MIB)) == 10
        assert len(await granted(other.memory, other, 100 * MIB)) == 2  # what every job is assured of


async def test_runners_divide_the_memory(tmp_path: Path) -> None:
    with Capacity(settings_of(tmp_path, runners=2)).places(Variant.LIGHT, 0, 1.0) as places:
        assert len(await granted(places.memory, places, 100 * MIB)) == 5


@pytest.mark.parametrize(("replicas", "target", "segmenting"), [(1, 1.0, 1), (8, 1.0, 12), (3, 1.5, 6)])
async def test_places_follow_segmenters_and_decoders(
    tmp_path: Path, replicas: int, target: float, segmenting: int
) -> None:
    capacity = Capacity(settings_of(tmp_path, replicas=replicas, target=target))
    with capacity.places(Variant.LIGHT, 0, 1.0) as places:
        assert len(await granted(places.segmenting, places, 1)) == segmenting
        assert len(await granted(places.ahead, places, 1)) == segmenting + 6


async def test_an_ended_job_leaves_its_memory(tmp_path: Path) -> None:
    capacity = Capacity(settings_of(tmp_path))
    with capacity.places(Variant.LIGHT, 0, 1.0) as places:
        await granted(places.memory, places, 100 * MIB)
    with capacity.places(Variant.LIGHT, 0, 2.0) as places:
        assert len(await granted(places.memory, places, 100 * MIB)) == 10
