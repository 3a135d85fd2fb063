"""Sources that are small as files and huge as videos: refused by their headers, or turned into a right file."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from serve_app.errors import FrameTooLarge, UnsupportedVideo, VideoTooLong, to_wire
from serve_app.fal import OutputType
from serve_app.settings import SourceLimits
from serve_app.video.probe import probe
from tests.video.clips import X264, Clip
from tests.video.conftest import Clips
from tests.video.good_clips import good_clips
from tests.video.hostile import make_all
from tests.video.pipeline import convert, shown, times

HOUR = 3_600_000  # milliseconds


def with_pause(source: Path, path: Path, pause: int) -> Path:
    """A Matroska file whose last three frames come `pause` milliseconds late."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(p for p in container.demux(video=0) if p.size):
            assert packet.pts is not None
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = number * 40 + (pause if number >= 3 else 0)
            packet.stream = stream
            out.mux(packet)
    return path


@pytest.fixture
def six(clip: Clips) -> Path:
    return clip(Clip("six.mkv", frames=6, options=X264 | {"bf": "0", "g": "3"}))


@pytest.mark.parametrize("kind", list(OutputType))
@pytest.mark.parametrize("pause", [HOUR, 23 * HOUR])
def test_a_long_pause_is_kept(six: Path, tmp_path: Path, kind: OutputType, pause: int) -> None:
    index, out, media = convert(with_pause(six, tmp_path / "pause.mkv", pause), tmp_path, kind)
    assert index.duration_s == pytest.approx(pause / 1000 + 0.24, abs=0.001)
    assert media.duration == pytest.approx(index.duration_s, abs=0.1)
    if kind is OutputType.GIF:  # which needs several images for a pause
        assert media.num_frames >= 6
        return
    assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(shown(out), times(index), strict=True))


@pytest.mark.parametrize("pause", [25 * HOUR, 10**8, 10**10, 10**13])
def test_a_longer_one_is_refused(six: Path, tmp_path: Path, pause: int) -> None:
    with pytest.raises(VideoTooLong, match="pauses included") as caught:
        probe(with_pause(six, tmp_path / "pause.mkv", pause))
    (detail,) = to_wire(caught.value).body["detail"]
    assert (detail["type"], detail["ctx"]["max_duration"]) == ("video_duration_too_long", 86400)


def gif_of(side: int) -> bytes:
    """One image of one pixel on a canvas of `side` squared, in 43 bytes."""
    size = side.to_bytes(2, "little") * 2
    head = b"GIF89a" + size + b"\x80\x00\x00" + b"\0\0\0\xff\xff\xff"
    return (
        head
        + b"\x21\xf9\x04\x01\x0a\x00\x00\x00"
        + b"\x2c"
        + bytes(4)
        + b"\1\0\1\0\0"
        + b"\x02\x02\x44\x01\x00;"
    )


PEAK = """
import resource, sys
from pathlib import Path
from serve_app.errors import SourceError
from serve_app.video.probe import probe
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    probe(Path(sys.argv[1]))
except SourceError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("side", [8193, 16000, 65535])
def test_a_huge_canvas_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "canvas.gif"
    path.write_bytes(gif_of(side))
    assert len(gif_of(side)) < 60
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)],
        check=True,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert int(run.stdout) < 64  # MB


@pytest.mark.parametrize(
    "name", ["stsz-constant", "stts-runs", "stts-middle", "stsc-chunks", "trun-defaults"]
)
def test_sample_tables_are_checked_before_they_are_read(tmp_path: Path, name: str) -> None:
    good = good_clips(tmp_path)
    files = make_all(tmp_path, good, tmp_path / "canary", port=1)
    path = files[f"{name}.mp4"]
    assert path.stat().st_size < 4000
    with pytest.raises(UnsupportedVideo, match=r"declares \d+ samples, but the file has only"):
        probe(path)


def test_tracks_are_limited(clip: Clips) -> None:
    film = clip(Clip("six-sound.mp4", frames=6, options=X264, audio="aac", audio_seconds=0.2))
    probe(film, SourceLimits(max_streams=2))
    with pytest.raises(UnsupportedVideo, match="2 tracks; at most 1 "):
        probe(film, SourceLimits(max_streams=1))


def test_only_known_decoders_are_used(tmp_path: Path) -> None:
    """FFmpeg has this one, but nobody sends it."""
    with av.open(str(tmp_path / "odd.avi"), "w") as out:
        stream = out.add_stream("asv2", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(UnsupportedVideo, match="codec that cannot be decoded"):
        probe(tmp_path / "odd.avi")


def test_pixels_are_limited_too(tmp_path: Path) -> None:
    path = tmp_path / "canvas.gif"
    path.write_bytes(gif_of(8192))
    with pytest.raises(FrameTooLarge, match="8192x8192"):
        probe(path)
    path.write_bytes(gif_of(4096))
    assert probe(path).layout.width == 4096


@pytest.mark.parametrize("name", ["film.mp4", "x264.avi"])
def test_frames_are_counted_while_indexing(clip: Clips, name: str) -> None:
    assert len(probe(clip(name), SourceLimits(max_frames=50)).pts) == 50
    with pytest.raises(VideoTooLong, match="more than 49 frames"):
        probe(clip(name), SourceLimits(max_frames=49))
