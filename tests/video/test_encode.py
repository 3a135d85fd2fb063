"""Pieces: same input, same bytes; the right colours, sizes and alpha."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from serve_app.errors import EncodingFailed, JobCancelled, StorageFull
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import Frames, PixelLayout, Plane
from serve_app.protocols import Cutout, EncodeSettings
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout, has_alpha
from serve_app.video.writer import complete_or_removed, writing_failed
from tests.video.pipeline import PROVENANCE, never

BOTH = [OutputType.MP4, OutputType.WEBM]
ALL = list(OutputType)
SETTINGS = EncodeSettings(
    OutputType.MP4, Quality.HIGH, WriteMode.FAST, Fraction(1, 12800), 512, Fraction(25), Fraction(1)
)


def moving(layout: PixelLayout, frames: int = 12) -> Cutout:
    """A gradient that moves, with a matte that is a soft disc."""
    y, x = np.mgrid[0 : layout.height, 0 : layout.width]
    scale = 1 << (layout.depth - 8)

    def plane_of(values: np.ndarray) -> Plane:
        return values.astype(np.uint8) if layout.depth == 8 else values.astype(np.uint16)

    luma = plane_of(np.stack([((x + 2 * y + 3 * n) % 160 + 40) * scale for n in range(frames)]))
    blue, red = (plane_of(np.full((frames, *layout.chroma_size), value * scale)) for value in (90, 170))
    distance = np.hypot(y - layout.height / 2, x - layout.width / 2)
    disc = np.clip(255 * (layout.height / 2 - distance) / 8, 0, 255).astype(np.uint8)
    pts = 512 * np.arange(1, frames + 1)
    colour = Frames((luma, blue, red), layout, pts, Fraction(1, 12800))
    return Cutout(colour, np.broadcast_to(disc, luma.shape), PROVENANCE, 0.0)


def decoded(path: Path, codec: str | None = None) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if codec:
            other = VideoCodecContext.create(codec, "r")
            assert isinstance(other, VideoCodecContext)
            decoder = other
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [frame for packet in [*packets, None] for frame in decoder.decode(packet)]


def plane(frame: av.VideoFrame, index: int) -> np.ndarray:
    source = frame.planes[index]
    rows = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)
    return rows[: source.height, : source.width]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("output_type", ALL)
def test_same_bytes(tmp_path: Path, output_type: OutputType, mask: bool, threads: int) -> None:
    settings = replace(SETTINGS, output_type=output_type, mask=mask)
    cutout = moving(cutout_layout(PixelLayout(320, 272), output_type))
    figures = [encode_piece(cutout, settings, tmp_path / name, never, threads) for name in "ab"]
    assert figures[0] == figures[1]
    assert figures[0].size == (tmp_path / "a").stat().st_size
    assert (figures[0].frames, figures[0].first_pts, figures[0].last_pts) == (12, 512, 6144)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("output_type", [*BOTH, OutputType.MOV])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full", [False, True])
def test_tags(
    tmp_path: Path, output_type: OutputType, matrix: Literal["bt601", "bt709", "bt2020"], full: bool
) -> None:
    primaries, transfer = {"bt601": (6, 6), "bt709": (1, 1), "bt2020": (9, 14)}[matrix]
    source = PixelLayout(
        64, 48, matrix=matrix, full_range=full, primaries=primaries, transfer=transfer, chroma_site="center"
    )
    layout = cutout_layout(source, output_type)
    settings = replace(SETTINGS, output_type=output_type, sample_aspect=Fraction(4, 3))
    encode_piece(moving(layout, 2), settings, tmp_path / "piece", never)
    with av.open(str(tmp_path / "piece")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        code = {"bt601": (5, 6), "bt709": (1,), "bt2020": (9,)}[matrix]
        assert context.colorspace in code and context.color_range == (2 if layout.full_range else 1)
        assert (context.color_primaries, context.color_trc) == (primaries, transfer)
        # PyAV offers no way to tell a WebM file its aspect: its samples are made square before.
        assert stream.sample_aspect_ratio == (1 if output_type is OutputType.WEBM else Fraction(4, 3))


def test_h264_pads_odd_sizes_by_repeating_edges(tmp_path: Path) -> None:
    cutout = moving(PixelLayout(63, 47), 3)
    settings = replace(SETTINGS, quality=Quality.MAXIMUM)
    encode_piece(cutout, settings, tmp_path / "piece", never)
    frames = decoded(tmp_path / "piece")
    assert {(frame.width, frame.height, frame.format.name) for frame in frames} == {(64, 48, "yuv420p")}
    for row, frame in enumerate(frames):
        wanted = np.pad(cutout.colour.planes[0][row], ((0, 1), (0, 1)), "edge")
        assert np.abs(plane(frame, 0).astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_vp9_carries_the_matte(tmp_path: Path, size: tuple[int, int]) -> None:
    cutout = moving(PixelLayout(*size))
    settings = replace(SETTINGS, output_type=OutputType.WEBM)
    encode_piece(cutout, settings, tmp_path / "piece", never)
    frames = decoded(tmp_path / "piece", "libvpx-vp9")
    assert len(frames) == 12
    for row, frame in enumerate(frames):
        assert (frame.width, frame.height, frame.format.name) == (*size, "yuva420p")
        assert np.abs(plane(frame, 3).astype(int) - cutout.matte[row]).mean() < 3
        assert np.abs(plane(frame, 0).astype(int) - cutout.colour.planes[0][row]).mean() < 4


@pytest.mark.parametrize("output_type", BOTH)
def test_a_piece_is_one_closed_group(tmp_path: Path, output_type: OutputType) -> None:
    """One keyframe, first; even where the picture changes all at once."""
    cutout = moving(PixelLayout(64, 48), 40)
    cutout.colour.planes[0][20:] = 255 - cutout.colour.planes[0][20:]
    encode_piece(cutout, replace(SETTINGS, output_type=output_type), tmp_path / "piece", never)
    with av.open(str(tmp_path / "piece")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[0].is_keyframe and packets[0].pts == 0
    assert len(packets) == 40
    if output_type is OutputType.WEBM:
        assert not any(packet.is_keyframe for packet in packets[1:])
        assert all(packet.has_sidedata("matroska_block_additional") for packet in packets)


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    calls = count()
    with pytest.raises(JobCancelled):
        encode_piece(moving(PixelLayout(64, 48)), SETTINGS, tmp_path / "piece", lambda: next(calls) >= 5)
    assert next(calls) == 6
    empty = moving(PixelLayout(64, 48))
    none = tuple(plane[:0] for plane in empty.colour.planes)
    colour = replace(empty.colour, planes=none, pts=empty.colour.pts[:0])
    empty = replace(empty, colour=colour, matte=empty.matte[:0])
    with pytest.raises(EncodingFailed, match="without frames"):
        encode_piece(empty, SETTINGS, tmp_path / "piece", never)
    deep = moving(PixelLayout(64, 48, "444"))
    with pytest.raises(EncodingFailed, match="4:2:0"):
        encode_piece(deep, SETTINGS, tmp_path / "piece", never)
    for output_type in (OutputType.MOV, OutputType.GIF):
        with pytest.raises(
            EncodingFailed, match="10-bit 4:4:4 limited" if output_type is OutputType.MOV else "RGB"
        ):
            encode_piece(deep, replace(SETTINGS, output_type=output_type), tmp_path / "piece", never)
    for output_type in ALL:
        cutout = moving(cutout_layout(PixelLayout(64, 48), output_type))
        with pytest.raises(EncodingFailed):
            encode_piece(cutout, replace(SETTINGS, output_type=output_type), tmp_path / "no" / "piece", never)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_has_its_own_error(tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.touch()
    with pytest.raises(StorageFull), complete_or_removed(half):
        raise OSError(28, "No space left on device")  # as Python's own files say it
    assert not half.exists()
    for number, kind in ((28, StorageFull), (5, EncodingFailed)):
        with pytest.raises(FFmpegError) as caught:
            av.error.err_check(-number)
        assert isinstance(writing_failed(caught.value), kind)


def test_layouts_of_cutouts() -> None:
    source = PixelLayout(
        95, 63, "422", 10, "bt2020", chroma_site="center", alpha=True, primaries=9, transfer=16
    )
    wanted = PixelLayout(95, 63, matrix="bt709", chroma_site="center", primaries=1, transfer=1)
    rgb = PixelLayout(10, 10, "444", matrix="rgb", full_range=True)
    for output_type in BOTH:
        assert cutout_layout(source, output_type) == wanted
        assert cutout_layout(rgb, output_type) == PixelLayout(10, 10, matrix="bt709")
        assert has_alpha(output_type) is (output_type is OutputType.WEBM)
    full = replace(source, full_range=True)
    deep = PixelLayout(95, 63, "444", 10, "bt2020", primaries=9, transfer=16)
    assert cutout_layout(source, OutputType.MOV) == cutout_layout(full, OutputType.MOV) == deep
    assert cutout_layout(rgb, OutputType.MOV) == PixelLayout(10, 10, "444", 10, "bt709")
    assert cutout_layout(full, OutputType.WEBM) == wanted
    flat = replace(full, transfer=14)  # wide, but not bright
    assert cutout_layout(flat, OutputType.WEBM) == replace(
        wanted, full_range=True, matrix="bt2020", primaries=9, transfer=14
    )
    colours = PixelLayout(95, 63, "444", 8, "rgb", full_range=True, primaries=1, transfer=1)
    assert cutout_layout(source, OutputType.GIF) == colours
    assert cutout_layout(rgb, OutputType.GIF) == rgb
    assert has_alpha(OutputType.MOV) and has_alpha(OutputType.GIF)
