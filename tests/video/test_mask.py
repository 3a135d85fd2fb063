"""Masks: the matte as grey, in every format, at the same times and without sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.fal import OutputType, Quality
from serve_app.picture import PixelLayout
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout
from serve_app.video.planes import view
from tests.video.clips import CLIPS
from tests.video.conftest import Clips
from tests.video.gifs import structure
from tests.video.pipeline import convert, mattes, never, shown, times
from tests.video.test_encode import SETTINGS, decoded, moving

ALL = list(OutputType)
CODECS = {
    OutputType.MP4: ("h264", "yuv420p"),
    OutputType.WEBM: ("vp9", "yuv420p"),
    OutputType.MOV: ("prores", "yuv444p12le"),
    OutputType.GIF: ("gif", "bgra"),
}
BOUND = {OutputType.MP4: 1.5, OutputType.WEBM: 1.5, OutputType.MOV: 0.6, OutputType.GIF: 0.0}  # levels of 255


def greys(path: Path) -> list[np.ndarray]:
    """The frames of a mask as a player shows them: grey, 0 to 255, whatever the tags say."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    out = []
    for frame in frames:
        rgb = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(rgb - rgb[..., :1]).max() <= 1
        out.append(rgb[..., 1])
    return out


@pytest.mark.parametrize("output_type", ALL)
@pytest.mark.parametrize("name", ["hd.mp4", "full.mp4", "odd.mp4", "hdr.mp4", "vfr.mp4"])
def test_the_matte_comes_back(clip: Clips, tmp_path: Path, name: str, output_type: OutputType) -> None:
    """In full and limited range, from 8 and 10 bits, with and without sound beside it."""
    index, out, media = convert(clip(name), tmp_path, output_type, 13, Quality.MAXIMUM, mask=True)
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        first = next(container.decode(stream))
        assert (stream.codec_context.name, first.format.name) == CODECS[output_type]
        assert "alpha_mode" not in {key.lower() for key in stream.metadata}
        if output_type is not OutputType.GIF:
            context = stream.codec_context
            assert (context.color_range, context.colorspace, context.color_primaries) == (1, 1, 1)
    assert media.num_frames == CLIPS[name].frames
    wanted = times(index)
    assert max(abs(a - b + wanted[0]) for a, b in zip(shown(out), wanted, strict=True)) <= 0.005
    height, width = index.layout.height, index.layout.width
    for grey, matte in zip(greys(out), mattes(index, 13), strict=True):
        error = grey[:height, :width] - matte.astype(int)
        assert np.sqrt(np.mean(error**2)) <= BOUND[output_type]
        assert np.abs(error).max() <= 12 * bool(BOUND[output_type])


@pytest.mark.parametrize("output_type", [OutputType.MP4, OutputType.WEBM, OutputType.MOV])
def test_black_and_white_are_the_ends_of_the_range(tmp_path: Path, output_type: OutputType) -> None:
    cutout = moving(cutout_layout(PixelLayout(64, 48), output_type), 2)
    matte = np.zeros_like(cutout.matte)
    matte[:, :, 32:] = 255
    settings = replace(SETTINGS, output_type=output_type, mask=True, quality=Quality.MAXIMUM)
    encode_piece(replace(cutout, matte=matte), settings, tmp_path / "piece", never)
    for frame in decoded(tmp_path / "piece"):
        deep = output_type is OutputType.MOV
        luma = view(frame.planes[0], "<u2") / 16 if deep else view(frame.planes[0], "u1").astype(float)
        assert np.abs(luma[:, :24] - 16).max() < 1.5 and np.abs(luma[:, 40:] - 235).max() < 1.5
        for chroma in frame.planes[1:]:
            samples = view(chroma, "<u2") / 16 if deep else view(chroma, "u1").astype(float)
            assert np.abs(samples - 128).max() <= 1


def test_a_gif_mask_has_all_levels(tmp_path: Path, clip: Clips) -> None:
    """Whatever the quality: no level is left out, nothing is see-through."""
    files = set()
    for quality in Quality:
        _, out, _ = convert(clip("closed.mp4"), tmp_path, OutputType.GIF, quality=quality, mask=True)
        files.add(out.read_bytes())
        made = structure(out)
        assert (made.colours, made.loops) == (256, 0)
        assert {(image.box, image.transparent) for image in made.images} == {((0, 0, 96, 64), None)}
    assert len(files) == 1
