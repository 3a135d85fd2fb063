"""`remove_background`: sources, inputs, progress, errors. tests/cluster/test_in_process.py has the comparison."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app import cutouts, remove_background
from serve_app.api.schema import VideoInput
from serve_app.errors import DownloadFailed, FeatureNotSupported, FrameTooLarge, UnsupportedVideo
from serve_app.settings import Settings, SourceLimits
from serve_app.video.probe import probe
from tests.cluster.media import read
from tests.cluster.service import MediaServer
from tests.video.clips import X264, Clip, make
from tests.video.corpus import CASES

CLIP = Clip("holiday.mp4", frames=50, options=X264, audio="aac")
LIGHT = {"engine": "tests.cluster.light:make_engine"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sources") / CLIP.name, CLIP)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", segmenter=LIGHT)


@pytest.fixture
def media_server(clip: Path) -> Iterator[MediaServer]:
    server = MediaServer(clip.parent)
    yield server
    server.stop()


def test_the_inputs_have_the_defaults_of_the_contract() -> None:
    fields = VideoInput.model_fields
    given = {"source", "out", "mask", "progress", "settings"}
    by_files = {"video_url", "output_mask", "video_output_type", "sync_mode"}
    for function, left_out in (
        (remove_background, set()),
        (cutouts, {"video_quality", "video_write_mode", "drop_audio"}),
    ):
        parameters = inspect.signature(function).parameters
        inputs = {name: parameter.default for name, parameter in parameters.items() if name not in given}
        assert inputs == {name: fields[name].default for name in fields.keys() - by_files - left_out}


def test_figures_progress_and_audio(clip: Path, settings: Settings, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    out, mask = tmp_path / "new" / "cut.mp4", tmp_path / "masks" / "mask.MP4"
    made = remove_background(
        clip, out, mask=mask, progress=lambda done, total: said.append((done, total)), settings=settings
    )
    video = made.video
    assert (video.name, video.file_name, video.file_size) == (str(out), "cut.mp4", out.stat().st_size)
    assert (video.width, video.height, video.num_frames, video.fps, video.duration) == (96, 64, 50, 25.0, 2.0)
    assert made.mask_video is not None and made.mask_video.name == str(mask)
    assert said == [(0, 50), (16, 50), (33, 50), (50, 50)]
    assert read(out).audio is not None and read(mask).audio is None
    assert [path.name for path in out.parent.iterdir()] == ["cut.mp4"]


def test_without_audio(clip: Path, settings: Settings, tmp_path: Path) -> None:
    made = remove_background(clip, tmp_path / "cut.mp4", drop_audio=True, settings=settings)
    assert made.mask_video is None
    assert read(tmp_path / "cut.mp4").audio is None


async def test_a_url_where_a_loop_is_running(
    clip: Path, media_server: MediaServer, settings: Settings, tmp_path: Path
) -> None:
    """As in a notebook."""
    remove_background(media_server.url(CLIP.name), str(tmp_path / "url.mp4"), settings=settings)
    remove_background(str(clip), tmp_path / "path.mp4", settings=settings)
    assert (tmp_path / "url.mp4").read_bytes() == (tmp_path / "path.mp4").read_bytes()
    with pytest.raises(DownloadFailed, match="404"):
        remove_background(media_server.url("none.mp4"), tmp_path / "none.mp4", settings=settings)


def test_a_source_whose_packets_are_not_its_frames(settings: Settings, tmp_path: Path) -> None:
    source = CASES["hidden.webm"].make(tmp_path)
    assert len(probe(source).pts) != len(probe(source, decode=True).pts)
    made = remove_background(source, tmp_path / "cut.mp4", settings=settings)
    assert made.video.num_frames == len(probe(source, decode=True).pts)


def test_damage_is_a_warning(settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = CASES["rubbish.mp4"].make(tmp_path)
    remove_background(source, tmp_path / "cut.mp4", settings=settings)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("The source is damaged" in line for line in warnings)


def test_errors_are_those_of_the_service(clip: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    out = tmp_path / "out" / "cut.webm"
    with pytest.raises(UnsupportedVideo, match="not a video"):
        remove_background(tmp_path / "text.mp4", out, settings=settings)
    with pytest.raises(FileNotFoundError):
        remove_background(tmp_path / "none.mp4", out, settings=settings)
    with pytest.raises(FeatureNotSupported, match="Dynamic"):
        remove_background(clip, out, operating_resolution="2304x2304", settings=settings)
    with pytest.raises(ValueError, match="video_quality"):
        remove_background(clip, out, video_quality="best", settings=settings)
    with pytest.raises(FeatureNotSupported, match=r"\.mp4, \.webm, \.mov, \.gif"):
        remove_background(clip, out.with_suffix(".avi"), settings=settings)
    with pytest.raises(FeatureNotSupported, match=r"mask\.webm"):
        remove_background(clip, out, mask=tmp_path / "mask.mp4", settings=settings)
    with pytest.raises(FeatureNotSupported, match="a name of its own"):
        remove_background(clip, out, mask=out, settings=settings)
    with pytest.raises(FrameTooLarge):
        remove_background(
            clip, out, settings=settings.model_copy(update={"source": SourceLimits(max_side=80)})
        )
    assert list(out.parent.iterdir()) == []


def test_an_interrupted_call_leaves_nothing(clip: Path, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out" / "cut.mp4"
    out.parent.mkdir()
    out.write_text("an earlier result")
    before = threading.enumerate()

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove_background(clip, out, progress=interrupt, settings=settings)
    assert out.read_text() == "an earlier result"
    assert list(out.parent.iterdir()) == [out]
    assert threading.enumerate() == before
