"""`cutouts`: every frame, its exact time, and the matte of the mask video."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from serve_app import cutouts, remove_background
from serve_app.errors import UnsupportedVideo
from serve_app.settings import Settings
from serve_app.video.probe import probe
from tests.cluster.media import read
from tests.video.clips import X264, Clip, make
from tests.video.corpus import CASES
from tests.video.pipeline import times

VARIABLE = Clip(
    "screen.mp4",
    frames=40,
    time_base=Fraction(1, 600),
    pts=[n * n % 7 + 20 * n for n in range(40)],
    options=X264,
    audio="aac",
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sources") / VARIABLE.name, VARIABLE)


def test_frames_and_mattes_are_those_of_the_files(clip: Path, tmp_path: Path) -> None:
    """With the embedded checkpoint. A GIF's mask keeps all 256 levels."""
    settings = Settings(data_dir=tmp_path / "data")
    frames = list(cutouts(clip, settings=settings))
    index = probe(clip)
    assert [frame.pts for frame in frames] == times(index)
    ends = [*times(index)[1:], (int(index.pts[-1]) + index.last_duration - index.origin) * index.time_base]
    assert [frame.pts + frame.duration for frame in frames] == ends
    remove_background(
        clip, tmp_path / "cut.gif", mask=tmp_path / "mask.gif", video_quality="maximum", settings=settings
    )
    mattes = np.stack([frame.matte for frame in frames])
    assert len(np.unique(mattes)) > 2
    assert np.array_equal(mattes, read(tmp_path / "mask.gif").grey)


@pytest.mark.parametrize("name", ["hidden.webm", "bframes.avi", "reset.ts"])
def test_times_that_packets_do_not_tell(name: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, segmenter={"engine": "tests.cluster.light:make_engine"})
    source = CASES[name].make(tmp_path)
    index = probe(source, decode=name == "hidden.webm")
    assert [frame.pts for frame in cutouts(source, settings=settings)] == times(index)


def test_arrays(clip: Path, tmp_path: Path) -> None:
    """The engine's matte is a disc, and its colours are the source's luma."""
    settings = Settings(data_dir=tmp_path, segmenter={"engine": "tests.cluster.light:make_engine"})
    frame = next(iter(cutouts(clip, settings=settings)))
    assert (frame.rgb.shape, frame.matte.shape) == ((64, 96, 3), (64, 96))
    assert frame.rgb.dtype == frame.matte.dtype == np.uint8
    assert (frame.matte[32, 48], frame.matte[0, 0]) == (255, 0)
    assert np.array_equal(frame.rgba[..., :3], frame.rgb)
    assert np.array_equal(frame.rgba[..., 3], frame.matte)


def test_damage_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the words of `remove_background`, also when only decoding finds it."""
    settings = Settings(data_dir=tmp_path, segmenter={"engine": "tests.cluster.light:make_engine"})
    source = CASES["rubbish.mp4"].make(tmp_path)
    assert sum(1 for _ in cutouts(source, settings=settings)) == 49
    (found,) = [r.message for r in caplog.records if "The source is damaged" in r.message]
    caplog.clear()
    remove_background(source, tmp_path / "cut.mp4", settings=settings)
    assert found in [record.message for record in caplog.records]


def test_closing_ends_the_work(clip: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, segmenter={"engine": "tests.cluster.light:make_engine"})
    before = threading.enumerate()
    frames = cutouts(clip, settings=settings)
    next(frames)
    assert len(threading.enumerate()) > len(before)
    frames.close()
    assert threading.enumerate() == before


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="model"):
        cutouts(tmp_path / "text.mp4", model="none")
    with pytest.raises(UnsupportedVideo):
        next(cutouts(tmp_path / "text.mp4"))
