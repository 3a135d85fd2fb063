"""What the index says of a source, and what is said of files that are none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.errors import UnsupportedVideo
from serve_app.picture import Geometry
from serve_app.protocols import IndexBrief
from serve_app.video.decode import linear
from serve_app.video.planes import layout_of
from serve_app.video.probe import probe
from serve_app.video.structure import Structure, structure_of
from tests.video.altered import with_preview
from tests.video.clips import CLIPS, VFR, X264, Clip, tone
from tests.video.conftest import Clips


def test_bunny(bunny: Path) -> None:
    index = probe(bunny)
    assert (index.layout.width, index.layout.height, index.layout.matrix) == (1280, 720, "bt709")
    assert index.codec == "h264" and not index.sequential and index.origin == 0
    assert (index.average_rate, index.frame_duration, index.time_base) == (
        Fraction(25),
        512,
        Fraction(1, 12800),
    )
    assert np.array_equal(index.pts, np.arange(132) * 512)
    assert index.pts.dtype == np.int64 and index.duration_s == 132 / 25
    assert index.audio is not None
    assert (index.audio.codec, index.audio.layout, index.audio.sample_rate) == ("aac", "5.1", 48000)
    assert index.audio.start_s == 0


@pytest.mark.parametrize("name", ["vfr.mp4", "late.mp4"])
def test_times_are_exact(clip: Clips, name: str) -> None:
    index = probe(clip(name))
    assert index.time_base == Fraction(1, 90000)
    assert index.pts.tolist() == list(CLIPS[name].pts or ())
    assert index.origin == index.pts[0]


def test_rates(clip: Clips) -> None:
    assert probe(clip("film.mp4")).average_rate == Fraction(24000, 1001)
    assert probe(clip("vp9film.webm")).average_rate == Fraction(24000, 1001)
    index = probe(clip("vfr.mp4"))
    measured = 49 / ((VFR[-1] - VFR[0]) / 90000)
    assert float(index.average_rate) == pytest.approx(measured, rel=0.05)
    assert index.frame_duration == pytest.approx(3003, abs=60)


@pytest.mark.parametrize("name", ["bframes.avi", "x264.avi", "raw.h264"])
def test_sources_without_times(clip: Clips, name: str) -> None:
    index = probe(clip(name))
    assert index.sequential and len(index.keyframes) == 0
    assert np.array_equal(np.diff(index.pts), np.full(49, index.frame_duration))


def test_duplicate_times_are_told_apart(clip: Clips, tmp_path: Path) -> None:
    """Two packets at one time: the frames are there, in order, and the times grow."""
    path = tmp_path / "twice.mkv"
    with av.open(str(clip("plain.avi"))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                assert packet.pts is not None
                packet.pts = packet.dts = packet.pts - (packet.pts == 20)
                packet.stream = stream
                out.mux(packet)
    index = probe(path)
    assert index.sequential
    assert len(index.pts) == 50 and (np.diff(index.pts) > 0).all()
    assert np.count_nonzero(np.diff(index.pts) == 40) == 47


@pytest.mark.parametrize(
    ("name", "matrix", "full", "codes"),
    [
        ("closed.mp4", "bt601", False, (2, 2)),
        ("full.mp4", "bt709", True, (1, 1)),
        ("hd.mp4", "bt709", False, (1, 1)),
        ("hdr.mp4", "bt2020", False, (9, 16)),
        ("jpeg.avi", "bt601", True, (2, 2)),
        ("rgb.mkv", "rgb", True, (2, 2)),
    ],
)
def test_colour(clip: Clips, name: str, matrix: str, full: bool, codes: tuple[int, int]) -> None:
    layout = probe(clip(name)).layout
    assert (layout.matrix, layout.full_range, (layout.primaries, layout.transfer)) == (matrix, full, codes)
    assert layout.chroma_site == ("center" if name == "jpeg.avi" else "left")


def test_rotation_turns_size_and_aspect(clip: Clips) -> None:
    index = probe(clip("aspect.mp4"))
    assert (index.layout.width, index.layout.height) == (64, 96)
    assert index.sample_aspect == Fraction(3, 4)
    assert index.geometry.rotation == 270


def test_origin_is_the_earlier_of_both_tracks(clip: Clips) -> None:
    early = probe(clip(Clip("early.mkv", options=X264, audio="ac3", audio_start=0.0, pts=range(25, 75))))
    assert early.audio is not None and early.audio.start_s == pytest.approx(0, abs=0.001)
    assert early.pts[0] - early.origin == pytest.approx(1000, abs=1)
    late = probe(clip(Clip("lateaudio.mkv", options=X264, audio="ac3", audio_start=0.5)))
    assert late.audio is not None and late.audio.start_s == pytest.approx(0.5, abs=0.01)
    assert late.origin == late.pts[0]


def test_cover_art_is_no_video(clip: Clips, tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=48000)
        cover = out.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(tone(1, 48000, 2)[:, :1024].copy(), "fltp", "stereo")
        frame.sample_rate = 48000
        out.mux(cover.encode(av.VideoFrame(32, 32, "rgb24")))
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    with pytest.raises(UnsupportedVideo, match="no video track, only audio"):
        probe(path)


def test_files_that_are_no_video(tmp_path: Path) -> None:
    samples = {
        b"": "empty",
        b"garbage " * 4000: "not a video",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n": "not a video",
        b"\x89PNG\r\n\x1a\n" + bytes(100): "not a video",
        b"\x00\x00\x00\x18ftypisom" + bytes(12): "moov",
    }
    for number, (data, message) in enumerate(samples.items()):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        with pytest.raises(UnsupportedVideo, match=message) as caught:
            probe(path)
        assert "mp4" in caught.value.context["supported_formats"]
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "none.mp4")


def test_audio_alone(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(tone(1, 48000, 2)[:, :1024].copy(), "fltp", "stereo")
        frame.sample_rate = 48000
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    with pytest.raises(UnsupportedVideo, match="only audio"):
        probe(path)


@pytest.mark.parametrize("name", ["closed.mp4", "fast.mp4", "hd.mp4"])
def test_truncated(clip: Clips, tmp_path: Path, name: str) -> None:
    wanted = Clip(name, options=X264, container={"movflags": "+faststart"}) if name == "fast.mp4" else name
    data = clip(wanted).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * 0.4)])
    with pytest.raises(UnsupportedVideo, match="truncated"):
        probe(path)
    path.write_bytes(data)
    probe(path)


def test_a_recording_may_be_cut_anywhere(clip: Clips, tmp_path: Path) -> None:
    """MPEG-TS is made to be tuned into: what can be decoded is used."""
    data = clip("open.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[len(data) // 4 // 188 * 188 : len(data) * 3 // 4])
    index = probe(path)
    assert 10 < len(index.pts) < 50


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("site", ["left", "center", "topleft"])
def test_chroma_site_is_read_from_the_file(clip: Clips, site: str, container: str) -> None:
    options = X264 | {"chroma_sample_location": site}
    source = clip(Clip(f"site-{site}.{container}", options=options, frames=3))
    assert probe(source).layout.chroma_site == site


def test_matrices(clip: Clips) -> None:
    """SMPTE 240M and FCC are recalculated; what is no YCbCr is refused with its name."""
    for code, wanted in ((7, "bt709"), (4, "bt601")):
        source = clip(Clip(f"matrix{code}.mp4", options=X264, frames=3, tags=(code, 1, code, code)))
        assert probe(source).layout.matrix == wanted
    for code, name in ((8, "YCgCo"), (10, "constant luminance"), (14, "ICtCp")):
        source = clip(Clip(f"matrix{code}.mp4", options=X264, frames=3, tags=(1, 1, 1, 1)))
        with av.open(str(source)) as container:
            frame = next(container.decode(video=0))
        frame.colorspace = code
        with pytest.raises(UnsupportedVideo, match=name):
            layout_of(frame, "h264", Geometry())


def test_240m_becomes_709(tmp_path: Path) -> None:
    """Against the equations of SMPTE 240M: Kr 0.212, Kb 0.087."""
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).repeat(8, 0).repeat(8, 1) / 255
    planes = {}
    for name, (red, blue) in {"240": (0.212, 0.087), "709": (0.2126, 0.0722)}.items():
        luma = rgb @ (red, 1 - red - blue, blue)
        cb, cr = (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)
        planes[name] = [np.rint(luma * 219 + 16), np.rint(cb * 224 + 128), np.rint(cr * 224 + 128)]
    path = tmp_path / "240.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, options={"level": "3", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 7, 1
        frame = av.VideoFrame.from_ndarray(np.stack(planes["240"]).astype(np.uint8), "yuv444p")
        frame.colorspace, frame.color_range = 7, 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    index = probe(path)
    assert index.layout.matrix == "bt709"
    (frames,) = linear(path, IndexBrief.of(index))
    errors = [np.abs(made[0] - wanted) for made, wanted in zip(frames.planes, planes["709"], strict=True)]
    assert max(error.mean() for error in errors) < 0.5 and max(error.max() for error in errors) <= 1
    assert np.abs(planes["240"][0] - planes["709"][0]).mean() > 0.8  # what it was before


def test_the_best_track(clip: Clips, tmp_path: Path) -> None:
    source = with_preview(clip("closed.mp4"), tmp_path / "preview.mkv")
    with av.open(str(source)) as container:
        assert [stream.codec_context.width for stream in container.streams.video] == [32, 96]
    assert probe(source).layout.width == 96


def test_what_a_container_says_of_its_size(clip: Clips, tmp_path: Path) -> None:
    for name in ("open.mkv", "plain.avi", "open.ts", "closed.mp4", "vp9.webm", "fragmented.mp4"):
        data = clip(name).read_bytes()
        path = tmp_path / name
        path.write_bytes(data)
        assert structure_of(path) == Structure(0, name == "fragmented.mp4")
        path.write_bytes(data[:-100])
        assert structure_of(path).missing == 100
