"""How many frames three decoders decode in all, with rare keyframes, and where nothing helps but reading in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.protocols import Chunk, Index
from serve_app.runner.plan import plan_chunks
from serve_app.settings import ChunkSettings
from serve_app.video.probe import probe
from tests.cluster.light import ENVIRONMENT
from tests.cluster.service import MediaServer, Service
from tests.video.clips import X264, Clip, make

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FRAMES = 1000
RARE = Clip("rare.mp4", frames=FRAMES, width=64, height=48, options={**X264, "g": "250", "sc_threshold": "0"})
OPENED = re.compile(r"opening work/([\w-]+)/source for chunk (\d+): no decoder stands there")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with three decoders."""
    scale = {"BIREFNET_DECODER__SCALE": '{"min_replicas": 3, "max_replicas": 3}'}
    service = Service.start(tmp_path_factory.mktemp("decoders") / "data", environment=ENVIRONMENT | scale)
    yield service
    assert service.stop() == 0


def decoded_frames(service: Service, index: Index, job_id: str) -> int:
    """The frames that the decoders of a job decoded: a decoder that was opened began at a keyframe before the chunk."""
    chunks = plan_chunks(index, ChunkSettings())
    logs = [path.read_text() for path in service.data_dir.rglob("*Decoder*.log")]
    opened = [int(number) for text in logs for job, number in OPENED.findall(text) if job == job_id]
    assert opened, "no decoder was opened"
    return FRAMES + sum(before(index, chunks[number]) for number in opened)


def before(index: Index, chunk: Chunk) -> int:
    """The frames from where decoding begins to the first one of the chunk."""
    begins = chunk.seek[0] if chunk.seek else int(index.pts[0])
    until = int(index.pts[0]) if chunk.start is None else chunk.start
    return int(((index.pts >= begins) & (index.pts < until)).sum())


@pytest.mark.parametrize(("sequential", "limit"), [(False, 1.3), (True, 1.1)], ids=["gop 250", "in order"])
def test_hardly_a_frame_is_decoded_twice(
    decoders: Service, media_server: MediaServer, clips_dir: Path, sequential: bool, limit: float
) -> None:
    clip = replace(RARE, name="raw.h264") if sequential else RARE
    path = make(clips_dir / clip.name, clip)
    index = probe(path)
    assert index.sequential == sequential
    reply = decoders.cut_out(media_server.url(clip.name))
    assert reply.status_code == 200, reply.text
    assert reply.json()["video"]["num_frames"] == FRAMES
    job_id = reply.json()["video"]["url"].split("/outputs/")[1].split("/")[0]
    assert decoded_frames(decoders, index, job_id) <= limit * FRAMES
