"""`birefnet-serve remove`: files and URLs, on a running server and on a temporary one, and the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.media import read
from tests.cluster.service import MediaServer, Service
from tests.cluster.test_cli import cli
from tests.video.clips import X264, Clip, make

pytestmark = [pytest.mark.cluster, pytest.mark.long]

CLIP = Clip("holiday.mp4", frames=10, width=96, height=64, options=X264)


@pytest.fixture(scope="module")
def clip(clips_dir: Path) -> Path:
    return make(clips_dir / CLIP.name, CLIP)


def test_a_file_and_a_url_against_a_running_server(
    service: Service, media_server: MediaServer, clip: Path, tmp_path: Path
) -> None:
    url = media_server.url(CLIP.name)
    done = cli(
        "remove", str(clip), url, "-o", str(tmp_path), "--server", service.url, "--type", "mov", "--mask"
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"holiday-cutout.mov", "holiday-mask.mov"}
    assert done.stdout.splitlines().count(str(tmp_path / "holiday-cutout.mov")) == 2
    media = read(tmp_path / "holiday-cutout.mov")
    assert (media.codec, len(media.times)) == ("prores", 10)
    assert media.alpha is not None


def test_the_output_can_be_named(service: Service, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "subject.gif"
    done = cli(
        "remove", str(clip), "-o", str(out), "--server", service.url, "--type", "gif", "--quality", "low"
    )
    assert done.returncode == 0, done.stderr
    assert read(out).codec == "gif"


def test_a_temporary_server(clip: Path, tmp_path: Path) -> None:
    done = cli("remove", str(clip), "-o", str(tmp_path), "--no-refine", "--write-mode", "fast")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "holiday-cutout.webm").alpha is not None


def test_failures_are_reported_and_the_others_processed(service: Service, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    sources = [str(tmp_path / "text.mp4"), str(tmp_path / "none.mp4"), str(clip)]
    done = cli("remove", *sources, "-o", str(tmp_path), "--server", service.url)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "text.mp4: video_url:" in said
    assert "none.mp4: no such file" in said
    assert (tmp_path / "holiday-cutout.webm").is_file()


def test_an_unreachable_server(clip: Path) -> None:
    done = cli("remove", str(clip), "--server", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be reached" in " ".join(done.stderr.split())
