"""Chunked decoding equals linear decoding, and what comes out is the picture that went in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.errors import JobCancelled, UnsupportedVideo
from serve_app.picture import Frames
from serve_app.protocols import Chunk, IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.video.decode import ChunkDecoder, linear
from serve_app.video.figures import room_for
from serve_app.video.probe import probe
from tests.video.clips import CLIPS, Clip, number_of, picture
from tests.video.conftest import Clips
from tests.video.pipeline import limits, never

MOVING = [
    "closed.mp4", "open.mp4", "open.mov", "open.mkv", "open.ts", "mpeg2.ts", "vp9.webm", "plain.avi",
    "bframes.avi", "x264.avi", "raw.h264", "hevc.mp4", "fragmented.mp4", "vfr.mp4", "vfr.ts", "late.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", MOVING)
def test_chunked_equals_linear(clip: Clips, name: str) -> None:
    path = clip(name)
    index = probe(path)
    brief = IndexBrief.of(index)
    reference = list(linear(path, brief))
    pts = np.concatenate([frame.pts for frame in reference])
    assert np.array_equal(pts, index.pts)
    assert [number_of(frame.planes[0][0]) for frame in reference] == list(range(CLIPS[name].frames))
    for size in (1, 7, 24):
        chunks = plan_chunks(index, limits(size))
        onward = ChunkDecoder(path, brief, threads=1)
        backward = ChunkDecoder(path, brief, threads=2)
        forward = [onward.decode(chunk, never) for chunk in chunks]
        seeking = [backward.decode(chunk, never) for chunk in reversed(chunks)][::-1]
        onward.close()
        backward.close()
        for parts in (forward, seeking):
            assert [len(part) for part in parts] == [chunk.frames for chunk in chunks]
            assert np.array_equal(np.concatenate([part.pts for part in parts]), pts)
            assert_same(parts, reference)


def assert_same(parts: list[Frames], reference: list[Frames]) -> None:
    for plane in range(len(reference[0].planes)):
        ours = np.concatenate([part.planes[plane] for part in parts])
        theirs = np.concatenate([frame.planes[plane] for frame in reference])
        assert np.array_equal(ours, theirs)


def test_a_recording_that_begins_in_the_middle(clip: Clips, tmp_path: Path) -> None:
    """What comes before the first keyframe cannot be decoded, and is not planned around."""
    data = clip("open.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[len(data) // 4 // 188 * 188 :])
    index = probe(path)
    reference = list(linear(path, IndexBrief.of(index)))
    assert 20 < len(reference) <= len(index.pts) < 50
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    for chunks in (plan_chunks(index, limits(7)), plan_chunks(index, limits(7))[::-1]):
        parts = [decoder.decode(chunk, never) for chunk in chunks]
        parts.sort(key=lambda part: part.pts[0] if len(part) else 0)
        assert sum(len(part) for part in parts) == len(reference)
        assert_same(parts, reference)
    decoder.close()


def test_edit_list(clip: Clips, tmp_path: Path) -> None:
    """Frames that an edit list cuts away are decoded, as others lean on them, but not delivered."""
    path = tmp_path / "trimmed.mp4"
    with av.open(str(clip("closed.mp4"))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                assert packet.pts is not None and packet.dts is not None
                packet.pts, packet.dts = packet.pts - 15 * 512, packet.dts - 15 * 512
                packet.stream = stream
                out.mux(packet)
    index = probe(path)
    assert not index.sequential and len(index.pts) == 35
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    parts = [decoder.decode(chunk, never) for chunk in plan_chunks(index, limits(6))]
    decoder.close()
    assert [number_of(luma) for part in parts for luma in part.planes[0]] == list(range(15, 50))
    assert np.array_equal(np.concatenate([part.pts for part in parts]), index.pts)


def test_a_chunk_again_and_another_next(clip: Clips) -> None:
    """A retry, then a jump, on one decoder."""
    path = clip("open.ts")
    index = probe(path)
    chunks = plan_chunks(index, limits(7))
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    for number in (3, 3, 4, 0, 6, 1, 2):
        frames = decoder.decode(chunks[number], never)
        first = sum(chunk.frames for chunk in chunks[:number])
        assert [number_of(luma) for luma in frames.planes[0]] == list(
            range(first, first + chunks[number].frames)
        )
    decoder.close()


def test_wrong_plans_are_mended(clip: Clips) -> None:
    """Seeking to where the chunk cannot be reached from, and a count that is too low."""
    path = clip("closed.mp4")
    index = probe(path)
    late = tuple(int(key) for key in index.keyframes[::-1])
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    frames = decoder.decode(Chunk(1, int(index.pts[5]), int(index.pts[30]), late, 12), never)
    assert np.array_equal(frames.pts, index.pts[5:30])
    assert [number_of(luma) for luma in frames.planes[0]] == list(range(5, 30))
    # With more frames than there is room for, the wrong number shows that the plan is wrong.
    short = Chunk(1, int(index.pts[5]), int(index.pts[30]), late, 2)
    assert len(decoder.decode(short, never)) == room_for(short) == 6
    after = decoder.decode(Chunk(2, int(index.pts[30]), None, late, 20), never)
    decoder.close()
    assert np.array_equal(after.pts, index.pts[30:])


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("odd420.mkv", ("420", 8, "bt601", False)), ("odd422.mkv", ("422", 8, "bt601", False)),
        ("p444.mkv", ("444", 8, "bt601", False)), ("p411.mkv", ("422", 8, "bt601", False)),
        ("p440.mkv", ("444", 8, "bt601", False)), ("deep16.mkv", ("444", 10, "bt601", False)),
        ("rgb.mkv", ("444", 8, "rgb", False)), ("rgb10.mkv", ("444", 10, "rgb", False)),
        ("rgba.mkv", ("444", 8, "rgb", True)), ("yuva.mkv", ("420", 8, "bt601", True)),
        ("gray.mkv", ("420", 8, "bt601", False)), ("gray16.mkv", ("420", 10, "bt601", False)),
        ("palette.gif", ("444", 8, "rgb", True)), ("jpeg.avi", ("420", 8, "bt601", False)),
        ("hdr.mp4", ("420", 10, "bt2020", False)), ("deep422.mp4", ("422", 10, "bt601", False)),
    ],
)  # fmt: skip
def test_formats(clip: Clips, name: str, layout: tuple[str, int, str, bool]) -> None:
    path = clip(name)
    index = probe(path)
    found = index.layout
    assert (found.subsampling, found.depth, found.matrix, found.alpha) == layout
    frames = list(linear(path, IndexBrief.of(index)))
    assert len(frames) == CLIPS[name].frames
    for number, frame in enumerate(frames):
        assert [plane.shape[1:] for plane in frame.planes] == list(found.plane_sizes)
        assert frame.planes[0].dtype == (np.uint16 if found.depth == 10 else np.uint8)
        assert number_of(frame.planes[0][0], 1023 if found.depth == 10 else 255) == number
    if found.alpha:
        assert (frames[0].planes[3] == 255).all()


@pytest.mark.parametrize("name", ["rgb.mkv", "rgba.mkv"])
def test_rgb_is_exact(clip: Clips, name: str) -> None:
    path = clip(name)
    frame = next(linear(path, IndexBrief.of(probe(path))))
    assert np.array_equal(np.stack([plane[0] for plane in frame.planes[:3]], -1), picture(0, 96, 64))


def test_gray_keeps_its_samples(clip: Clips) -> None:
    path = clip("gray.mkv")
    index = probe(path)
    frame = list(linear(path, IndexBrief.of(index)))[1]  # black and white blocks
    assert index.layout.full_range
    assert int(frame.planes[0].min()) == 16 and int(frame.planes[0].max()) == 235
    assert (frame.planes[1] == 128).all() and (frame.planes[2] == 128).all()


@pytest.mark.parametrize(
    ("name", "quarters", "sampling"),
    [
        ("turned90.mp4", 1, "420"),
        ("turned180.mp4", 2, "420"),
        ("turned270.mp4", 3, "420"),
        ("turned422.mp4", 1, "444"),
    ],
)
def test_rotation(clip: Clips, name: str, quarters: int, sampling: str) -> None:
    """FFmpeg's angle is counter-clockwise, as np.rot90's."""
    path = clip(name)
    index = probe(path)
    layout = index.layout
    assert index.geometry.rotation == -90 * quarters % 360
    assert (layout.width, layout.height, layout.subsampling) == ((96, 64) if quarters == 2 else (64, 96)) + (
        sampling,
    )
    for number, frame in enumerate(linear(path, IndexBrief.of(index))):
        upright = np.rot90(frame.planes[0][0], -quarters)
        assert number_of(upright) == number
        assert frame.planes[1].shape[1:] == layout.chroma_size


def test_cancel(clip: Clips) -> None:
    path = clip("closed.mp4")
    index = probe(path)
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    calls = count()
    with pytest.raises(JobCancelled):
        decoder.decode(plan_chunks(index, limits(50))[0], lambda: next(calls) >= 5)
    assert next(calls) == 6
    frames = decoder.decode(plan_chunks(index, limits(50))[0], never)  # the decoder is as good as new
    assert np.array_equal(frames.pts, index.pts)
    decoder.close()


def test_cancelled_while_seeking(clip: Clips) -> None:
    """The decoder does not believe to be where it was before."""
    path = clip("closed.mp4")
    index = probe(path)
    chunks = plan_chunks(index, limits(10))
    decoder = ChunkDecoder(path, IndexBrief.of(index))
    decoder.decode(chunks[0], never)
    calls = count()
    with pytest.raises(JobCancelled):
        decoder.decode(chunks[4], lambda: next(calls) >= 3)
    assert [number_of(luma) for luma in decoder.decode(chunks[1], never).planes[0]] == list(range(10, 20))
    decoder.close()


def test_damage_is_named_with_its_time(clip: Clips, tmp_path: Path) -> None:
    """VP9 packets overwritten at 1.2 s, the container untouched."""
    path = clip(Clip("vp9only.webm", codec="libvpx-vp9", options=CLIPS["vp9.webm"].options))
    index = probe(path)
    broken = tmp_path / "broken.webm"
    data = bytearray(path.read_bytes())
    for at, size in packets(path)[30:]:
        data[at : at + size] = b"\xff" * size
    broken.write_bytes(data)
    decoder = ChunkDecoder(broken, IndexBrief.of(index))
    chunks = plan_chunks(index, limits(10))
    assert len(decoder.decode(chunks[0], never)) == 10
    assert len(decoder.decode(chunks[3], never)) == 0
    lost = [decoder.decode(chunk, never) for chunk in chunks[3:]]
    decoder.close()
    assert [len(frames) for frames in lost] == [0, 0]
    assert [float(lost[0].damage[0] * index.time_base), len(lost[0].damage)] == [1.2, 10]


def test_a_frame_that_is_not_later_than_the_one_before_is_damage(tmp_path: Path) -> None:
    """Two frames at 0.04 s, although the packets have promised times that grow."""
    path = tmp_path / "stuck.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for time in (0, 40, 40, 80):
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 32), np.uint8), "yuvj420p")):
                packet.pts = packet.dts = time
                packet.time_base = Fraction(1, 1000)
                out.mux(packet)
    index = probe(path)
    assert index.sequential and list(index.pts) == [0, 40, 41, 80]
    decoder = ChunkDecoder(path, replace(IndexBrief.of(index), sequential=False))
    with pytest.raises(UnsupportedVideo, match=r"damaged near 0\.04 s: its frames do not follow each other"):
        decoder.decode(Chunk(0, None, None, (), 4), never)
    decoder.close()


def packets(path: Path) -> list[tuple[int, int]]:
    """Where the data of each video packet lies in the file."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        parts = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [(data.index(part), len(part)) for part in parts]
