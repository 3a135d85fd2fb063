"""Interlaced sources: progressive frames come out, the same whether decoded in one go or in chunks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest

from serve_app.protocols import Index, IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.video.decode import ChunkDecoder, linear
from serve_app.video.probe import probe
from tests.video.conftest import Clips
from tests.video.corpus_colour import field_line, interlaced
from tests.video.pipeline import limits, never
from tests.video.test_decode import assert_same

X264 = {"preset": "veryfast", "g": "12", "bf": "3", "crf": "10", "threads": "1"}
MPEG2 = {"flags": "+ildct+ilme", "bf": "2", "g": "12", "qmin": "1", "qmax": "1", "threads": "1"}
OPEN = "open-gop=1:keyint=12:min-keyint=12:scenecut=0:b-pyramid=normal:"
FORMS: dict[str, tuple[str, dict[str, str], str]] = {
    "tff.mp4": ("libx264", X264 | {"x264-params": "tff=1"}, "tff"),
    "bff.mp4": ("libx264", X264 | {"x264-params": "bff=1"}, "bff"),
    "open.mkv": ("libx264", X264 | {"x264-params": OPEN + "tff=1"}, "tff"),
    "open.ts": ("libx264", X264 | {"x264-params": OPEN + "tff=1"}, "tff"),
    "mpeg2.ts": ("mpeg2video", MPEG2, "tff"),
    "bff.mpg": ("mpeg2video", MPEG2, "bff"),
    "raw.h264": ("libx264", X264 | {"x264-params": "tff=1"}, "tff"),
    "intra.mkv": ("libx264", X264 | {"x264-params": "tff=1:keyint=1"}, "tff"),
}


def made(folder: Path, name: str) -> Path:
    codec, options, first = FORMS[name]
    return interlaced(folder / name, options, first, codec=codec)


def assert_chunked_equals_linear(path: Path, index: Index) -> None:
    reference = list(linear(path, IndexBrief.of(index)))
    assert len(reference) == len(index.pts)
    for size in (1, 7, 24):
        chunks = plan_chunks(index, limits(size))
        for order in (chunks, chunks[::-1]):  # going on, and seeking for each
            decoder = ChunkDecoder(path, IndexBrief.of(index))
            parts = [decoder.decode(chunk, never) for chunk in order]
            decoder.close()
            parts.sort(key=lambda part: int(part.pts[0]))
            assert np.array_equal(np.concatenate([part.pts for part in parts]), index.pts)
            assert_same(parts, reference)


@pytest.mark.parametrize("name", FORMS)
def test_chunked_equals_linear(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    index = probe(path)
    assert index.interlaced
    assert_chunked_equals_linear(path, index)


@pytest.mark.parametrize("name", ["tff.mp4", "bff.mp4", "mpeg2.ts", "bff.mpg"])
def test_the_combs_are_gone(tmp_path: Path, name: str) -> None:
    """Each frame is the scene at the time of its first field, on all lines; the source is half of it a field later."""
    path = made(tmp_path, name)
    index = probe(path)
    errors, before = [], []
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray()[:64] for frame in container.decode(video=0)]
    for number, frame in enumerate(linear(path, IndexBrief.of(index))):
        scene = np.stack([field_line(2 * number, line) for line in range(64)]).astype(int)
        errors.append(np.abs(frame.planes[0][0] - scene).mean())
        before.append(np.abs(raw[number] - scene).mean())
    assert np.mean(before[1:-1]) > 3  # what came out before
    assert np.mean(errors[1:-1]) < 1


def test_progressive_frames_pass_untouched(clip: Clips) -> None:
    path = clip("closed.mp4")
    index = probe(path)
    assert not index.interlaced
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray()[:64] for frame in container.decode(video=0)]
    for frame, own in zip(linear(path, IndexBrief.of(index)), raw, strict=True):
        assert np.array_equal(frame.planes[0][0], own)


def test_interlaced_from_the_middle_on(tmp_path: Path) -> None:
    """A broadcast that begins progressive, and returns to it."""
    parts = []
    for number, params in enumerate(("keyint=12", "keyint=12:tff=1", "keyint=12")):
        options = X264 | {"bf": "0", "x264-params": params}
        part = interlaced(tmp_path / f"{number}.h264", options, "tff" if "tff" in params else None, 17)
        parts.append(part.read_bytes())
    raw, path = tmp_path / "mixed.h264", tmp_path / "mixed.ts"
    raw.write_bytes(b"".join(parts))
    with av.open(str(raw)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            out.mux(packet)
    index = probe(path)
    assert not index.interlaced and len(index.pts) == 51
    assert_chunked_equals_linear(path, index)
    with av.open(str(path)) as container:
        raws = list(container.decode(video=0))
    assert [frame.interlaced_frame for frame in raws] == [False] * 17 + [True] * 17 + [False] * 17
    filtered = bwdif(raws)
    for frame, own, wanted in zip(linear(path, IndexBrief.of(index)), raws, filtered, strict=True):
        assert np.array_equal(frame.planes[0][0], wanted)
        same = np.array_equal(wanted, own.to_ndarray()[:64])
        assert same is not own.interlaced_frame


def bwdif(frames: list[av.VideoFrame]) -> list[np.ndarray]:
    """The luma of all frames through one filter from first to last."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=96, height=64, format=frames[0].format, time_base=Fraction(1, 25))
    deinterlace, sink = graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
    source.link_to(deinterlace)
    deinterlace.link_to(sink)
    graph.configure()
    for frame in [*frames, None]:
        graph.vpush(frame)
    return [graph.vpull().to_ndarray()[:64] for _ in frames]
