"""Open decoders between calls: a short cut that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.picture import Frames
from serve_app.protocols import CallLimits, Index, IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.settings import ChunkSettings, Settings
from serve_app.stages.decoder import Decoder
from tests.replicas import replica_class
from tests.video.clips import X264, Clip, make

Replica = replica_class(Decoder)
LIMITS = CallLimits(60.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(data_dir=tmp_path / "data")
    clip = make(tmp_path / "clip.mp4", Clip("clip.mp4", frames=40, options=X264))
    Artifacts(settings.artifacts_url).put_file("work/job/source", clip)
    return settings


async def chunks_of(decoder: Any, order: list[int] | None = None) -> tuple[Index, dict[int, Frames]]:
    index = await decoder.probe("work/job/source", LIMITS)
    chunks = plan_chunks(index, ChunkSettings(max_frames=10))
    found = {}
    for number in order or range(len(chunks)):
        found[number] = await decoder.decode("work/job/source", IndexBrief.of(index), chunks[number], LIMITS)
    return index, found


def same(a: Frames, b: Frames) -> bool:
    planes = all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))
    return planes and np.array_equal(a.pts, b.pts)


async def test_any_order_gives_the_same_frames(settings: Settings) -> None:
    decoder = Replica(settings)
    index, inorder = await chunks_of(decoder)
    _, mixed = await chunks_of(Replica(settings), [2, 0, 1, 3, 1])
    assert np.concatenate([inorder[n].pts for n in range(4)]).tolist() == index.pts.tolist()
    assert all(same(inorder[n], mixed[n]) for n in range(4))


async def test_the_end_of_a_source_closes_its_decoder(settings: Settings) -> None:
    decoder = Replica(settings)
    await chunks_of(decoder)
    assert decoder._decoders._idle == []


async def test_idle_decoders_are_bounded(settings: Settings) -> None:
    decoder = Replica(settings)
    await chunks_of(decoder, [0, 2, 0, 2, 0, 2, 0])
    assert len(decoder._decoders._idle) == 4
    await chunks_of(decoder, [1])
    assert len(decoder._decoders._idle) == 4
    decoder._decoders.close_idle()
    assert decoder._decoders._idle == []
