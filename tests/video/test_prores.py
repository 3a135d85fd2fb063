"""ProRes 4444: ten bits, every chroma sample, and a matte that loses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import PixelLayout
from serve_app.protocols import IndexBrief
from serve_app.video.decode import linear
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout
from serve_app.video.planes import view
from serve_app.video.probe import probe
from tests.video.conftest import Clips
from tests.video.pipeline import convert, mattes, never
from tests.video.test_encode import SETTINGS, decoded, moving

MOV = replace(SETTINGS, output_type=OutputType.MOV, quality=Quality.MAXIMUM)


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (95, 63), (1, 1), (2, 3), (130, 17)])
@pytest.mark.parametrize("mode", list(WriteMode))
def test_alpha_and_colour(tmp_path: Path, size: tuple[int, int], mode: WriteMode) -> None:
    """Sizes are kept, odd ones too. FFmpeg reads 4444 as twelve bits."""
    cutout = moving(cutout_layout(PixelLayout(*size), OutputType.MOV), 3)
    noise = np.random.default_rng(0).integers(0, 256, cutout.matte.shape, np.uint8)
    cutout = replace(cutout, matte=np.maximum(cutout.matte, noise))
    encode_piece(cutout, replace(MOV, write_mode=mode), tmp_path / "piece", never)
    with av.open(str(tmp_path / "piece")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.profile) == ("prores", "4444")
        assert stream.codec_context.codec_tag == "ap4h"
    frames = decoded(tmp_path / "piece")
    assert len(frames) == 3
    for row, frame in enumerate(frames):
        assert (frame.width, frame.height, frame.format.name) == (*size, "yuva444p12le")
        alpha = view(frame.planes[3], "<u2")
        assert np.array_equal(alpha >> 4, cutout.matte[row])
        assert np.array_equal(alpha == 0, cutout.matte[row] == 0)
        assert np.array_equal(alpha == 4095, cutout.matte[row] == 255)
        for index, plane in enumerate(cutout.colour.planes):
            error = view(frame.planes[index], "<u2") / 4 - plane[row]
            assert np.sqrt(np.mean(error**2)) < 3


def test_ten_bits_arrive(tmp_path: Path) -> None:
    """More levels than eight bits have, from a source of ten."""
    cutout = moving(cutout_layout(PixelLayout(256, 48), OutputType.MOV), 1)
    cutout.colour.planes[0][0] = np.arange(256) + 400
    encode_piece(cutout, MOV, tmp_path / "piece", never)
    luma = view(decoded(tmp_path / "piece")[0].planes[0], "<u2") >> 2
    assert len(np.unique(luma)) > 200


@pytest.mark.parametrize("name", ["deep422.mp4", "full.mp4", "odd422.mkv", "rgba.mkv", "hdr.mp4"])
def test_our_own_reader(clip: Clips, tmp_path: Path, name: str) -> None:
    """What was written is a source again, with its matte as alpha."""
    index, out, media = convert(clip(name), tmp_path, OutputType.MOV, frames=5)
    again = probe(out)
    assert again.layout == replace(cutout_layout(index.layout, OutputType.MOV), alpha=True)
    assert len(again.pts) == media.num_frames == len(index.pts)
    for part, matte in zip(linear(out, IndexBrief.of(again)), mattes(index, 5), strict=True):
        assert np.array_equal(part.planes[3][0] >> 2, matte)


def test_pieces_are_not_encoded_again(clip: Clips, tmp_path: Path) -> None:
    _, out, _ = convert(clip("closed.mp4"), tmp_path, OutputType.MOV, frames=13)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path), format="mov") as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    pieces = sorted(tmp_path.glob("*.piece"), key=lambda path: int(path.stem))
    assert len(pieces) == 4
    assert packets(out) == [packet for piece in pieces for packet in packets(piece)]
