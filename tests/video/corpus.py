"""Awkward clips, one row each: how it is made at test time, and what has to come out of it.

Frame n carries its number, the lower half flashes while the sound beeps, so that every clip is a clapper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.video.altered import (
    Change,
    cut,
    in_latin1,
    later,
    rubbish,
    twice,
    with_hidden_frames,
    with_junk,
    with_preview,
    without_sound,
    without_ts_packets,
)
from tests.video.clips import (
    CLOCK,
    FILM,
    FINE,
    LATE,
    LOSSLESS,
    NTSC,
    OPEN,
    VFR,
    VP9,
    X264,
    Clip,
    make,
)

Maker = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """`make(folder)` writes the clip. `frames`: that come out; None: as many as the cut has left. `warns`: a pattern
    of what the log has to say. `claps`: (second of the flash after the first frame, second of the beep on the same
    clock); None: not looked at. `duration`: in seconds; None: what the frames say. `numbered`: the frames that come
    out are the first ones, in order.
    """

    name: str
    make: Maker
    frames: int | None = 50
    warns: str | None = None
    claps: tuple[tuple[float, float], ...] | None = None
    duration: float | None = None
    numbered: bool = True


CLAP = ((0.52, 0.5),)  # at 25 frames a second the first frame after the beep's start
AAC: dict[str, Any] = {"audio": "aac", "clap": True}
VP8 = {"deadline": "realtime", "cpu-used": "8", "g": "12", "threads": "1"}
SVT = {"preset": "12", "g": "12", "svtav1-params": "lp=1", "threads": "1"}
HEVC = {"x265-params": "keyint=12:log-level=none:pools=1:frame-threads=1"}
MPEG = {"g": "12", "bf": "2", "threads": "1"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


def clip(name: str, **fields: Any) -> Maker:
    return lambda folder: make(folder / name, Clip(name, **fields))


def plain(
    name: str,
    *,
    frames: int = 50,
    claps: tuple[tuple[float, float], ...] | None = CLAP,
    duration: float | None = None,
    **fields: Any,
) -> Case:
    """A whole clip; with audio it is a clapper."""
    audio = "audio" in fields
    maker = clip(name, **({"frames": frames} | fields | ({"clap": True} if audio else {})))
    return Case(name, maker, frames, claps=claps if audio else None, duration=duration)


def of(maker: Maker, name: str, change: Change) -> Maker:
    """A clip made from another one."""
    return lambda folder: change(maker(folder), folder / name)


CONTAINERS = [
    plain("h264.mp4", options=X264, **AAC),
    plain("open.mp4", options=OPEN, **AAC),
    plain("open.mov", options=OPEN, audio="pcm_s16le"),
    plain("h264.mkv", options=OPEN, audio="ac3"),
    plain("h264.ts", options=OPEN, **AAC),
    plain("h264.flv", options=X264, **AAC),
    plain("h264.avi", options=X264 | {"bf": "0"}, audio="libmp3lame", claps=((0.52, 0.44),)),
    plain("bframes.avi", codec="mpeg4", options=MPEG),
    plain("fragmented.mp4", options=X264, container=FRAGMENTS, **AAC),
    plain("raw.h264", options=X264),
    plain("hevc.mp4", codec="libx265", options=HEVC, **AAC),
    plain("hevc.ts", codec="libx265", options=HEVC, audio="mp2"),
    plain("hevc.mkv", codec="libx265", options=HEVC),
    plain("av1.mp4", codec="libsvtav1", options=SVT, audio="libopus"),
    plain("av1.mkv", codec="libsvtav1", options=SVT),
    plain("vp9.webm", codec="libvpx-vp9", options=VP9, audio="libopus"),
    plain("vp9.mp4", codec="libvpx-vp9", options=VP9),
    plain("vp9.ivf", codec="libvpx-vp9", options=VP9),
    plain("vp8.webm", codec="libvpx", options=VP8),
    Case("hidden.webm", of(clip("shown.webm", codec="libvpx", options=VP8), "hidden.webm", with_hidden_frames), 48,
         numbered=False),
    plain("mpeg2.ts", codec="mpeg2video", options=MPEG, audio="mp2"),
    plain("mpeg2.mpg", codec="mpeg2video", options=MPEG, audio="mp2"),
    plain("mpeg1.mpg", codec="mpeg1video", options=MPEG, audio="mp2"),
    plain("mpeg2.mxf", codec="mpeg2video", options=MPEG, frames=26),
    plain("mpeg4.mp4", codec="mpeg4", options=MPEG),
    plain("plain.avi", codec="mpeg4", options={"g": "12", "threads": "1"}, audio="pcm_s16le"),
    plain("msmpeg4.avi", codec="msmpeg4", options={"g": "12", "threads": "1"}),
    plain("wmv2.wmv", codec="wmv2", options={"g": "12", "threads": "1"}, audio="wmav2", audio_options={"b": "128k"}),
    plain("h264.wmv", options=X264),
    plain("h264.mxf", options=X264),
    plain("sorenson.flv", codec="flv", options={"g": "12", "threads": "1"}, audio="libmp3lame", audio_rate=44100),
    plain("h263.3gp", codec="h263", width=128, height=96, options={"g": "12", "threads": "1"}),
    plain("mjpeg.avi", codec="mjpeg", pixel_format="yuvj420p", tags=(5, 2, 2, 2), audio="pcm_s16le"),
    plain("mjpeg.mov", codec="mjpeg", pixel_format="yuvj422p", tags=(5, 2, 2, 2)),
    plain("ffv1.mkv", codec="ffv1", options=LOSSLESS, audio="flac"),
    plain("prores.mov", codec="prores_ks", pixel_format="yuv422p10le", audio="pcm_s24le"),
    plain("qtrle.mov", codec="qtrle", pixel_format="rgb24", frames=26),
    plain("png.mov", codec="png", pixel_format="rgba", frames=26),
    plain("huffyuv.avi", codec="huffyuv", pixel_format="yuv422p", frames=26),
    plain("utvideo.nut", codec="utvideo", pixel_format="yuv420p", frames=26),
    plain("anim.gif", codec="gif", pixel_format="bgr8", frames=26),
]  # fmt: skip

TIMES = [
    plain("film.mp4", rate=FILM, options=X264, claps=((12 / 23.976, 0.5),), **AAC),
    plain("ntsc.ts", rate=NTSC, options=X264, claps=((15 / 29.97, 0.5),), **AAC),
    plain("fast.mkv", rate=Fraction(120), options=X264, claps=None),
    plain("vfr.mp4", pts=VFR, time_base=CLOCK, options=X264, container=FINE),
    plain("vfr.mkv", pts=VFR, time_base=CLOCK, options=X264),
    plain("tenhours.mp4", pts=LATE, time_base=CLOCK, options=X264, container=FINE),
    plain("one.mp4", frames=1, options=X264),
    plain("two.webm", frames=2, codec="libvpx-vp9", options=VP9),
    plain("screen.mp4", frames=26, options=X264, last_s=9.0, duration=10.0, audio_seconds=10.0, **AAC),
    plain("screen.mkv", frames=26, options=X264, last_s=9.0, duration=10.0, audio="flac", audio_seconds=10.0),
    plain("screen.webm", frames=26, codec="libvpx-vp9", options=VP9, last_s=9.0, duration=10.0),
    plain("slides.gif", frames=10, codec="gif", pixel_format="bgr8", last_s=5.0, duration=5.36),
    Case("seven.mkv", of(clip("h264-7.mkv", options=OPEN, audio="ac3", clap=True), "seven.mkv", later(7)),
         claps=CLAP),
    Case("latesound.mkv", of(clip("h264-4.mkv", options=X264, frames=150, audio="ac3", clap=True, audio_seconds=1.5),
                             "latesound.mkv", later(4, only=1)), 150, claps=((0.52, 4.5),)),
    Case("reset.ts", of(clip("once.ts", options=OPEN, audio="aac", clap=True), "reset.ts", twice), 100,
         claps=((0.52, 0.5), (2.52, 2.5)), numbered=False),
    Case("reset2.ts", of(clip("once2.ts", codec="mpeg2video", options=MPEG, audio="mp2", clap=True), "reset2.ts",
                         twice), 100, claps=((0.52, 0.5), (2.52, 2.5)), numbered=False),
]  # fmt: skip

SOUND = [
    plain("mono.mp4", options=X264, audio="aac", audio_layout="mono"),
    plain("six.mkv", options=X264, audio="flac", audio_layout="5.1(side)"),
    plain("seven-speakers.mkv", options=X264, audio="flac", audio_layout="6.1"),
    plain("eight-speakers.mkv", options=X264, audio="flac", audio_layout="7.1"),
    plain("german.mkv", options=X264, audio="flac", audio_metadata={"language": "ger", "title": "Kommentar"}),
    plain("short.mkv", options=X264, audio="flac", audio_seconds=0.8),
    plain("long.mkv", options=X264, audio="flac", audio_seconds=4.0),
    Case("gap-pcm.mkv", of(clip("whole-sound.mov", options=X264, audio="pcm_s16le", clap=True), "gap-pcm.mkv",
                       without_sound(0.1, 0.3)),
         claps=CLAP),
    Case("gap-flac.mkv", of(clip("whole-flac.mkv", options=X264, audio="flac", clap=True), "gap-flac.mkv",
                       without_sound(0.1, 0.4)),
         claps=CLAP),
]  # fmt: skip

OTHERS = [
    Case("latin1.avi", of(clip("utf8.avi", codec="mpeg4", options={"g": "12", "threads": "1"},
                               metadata={"title": "Kaese"}), "latin1.avi", in_latin1)),
    Case("junk.mp4", of(clip("nojunk.mp4", options=X264), "junk.mp4", with_junk)),
    Case("preview.mkv", of(clip("nopreview.mkv", options=X264), "preview.mkv", with_preview)),
    plain("odd.mkv", width=95, height=63, codec="ffv1", options=LOSSLESS),
]  # fmt: skip


DAMAGED = [
    Case("cut.mkv", of(clip("whole.mkv", options=OPEN, audio="ac3", clap=True), "cut.mkv", cut(0.7)), None,
         "truncated", claps=CLAP),
    Case("cut.webm", of(clip("whole.webm", codec="libvpx-vp9", options=VP9), "cut.webm", cut(0.6)), None,
         "truncated"),
    Case("cut.avi", of(clip("whole.avi", codec="mpeg4", options={"g": "12", "threads": "1"}), "cut.avi", cut(0.7)),
         None, "truncated", numbered=False),
    Case("cut-fragmented.mp4", of(clip("fragments.mp4", options=X264, container=FRAGMENTS), "cut-fragmented.mp4",
                                  cut(0.7)), None, "truncated"),
    Case("cut.ts", of(clip("whole.ts", options=OPEN, audio="aac", clap=True), "cut.ts", cut(0.7)), None, "truncated",
         claps=CLAP),
    Case("lossy.ts", of(clip("lossless.ts", options=OPEN, frames=100), "lossy.ts",
                        without_ts_packets(0.4, 0.5)), None, "damaged", numbered=False),
    Case("rubbish.mkv", of(clip("clean.mkv", options=X264), "rubbish.mkv", rubbish(20, 21)), 48, "damaged",
         numbered=False),
    Case("rubbish.mp4", of(clip("clean.mp4", options=X264), "rubbish.mp4", rubbish(30)), 49, "damaged",
         numbered=False),
    Case("rubbish.webm", of(clip("clean.webm", codec="libvpx-vp9", options=VP9), "rubbish.webm", rubbish(26)), 49,
         "damaged", numbered=False),
    Case("rubbish.avi", of(clip("clean.avi", codec="mpeg4", options={"g": "12", "threads": "1"}), "rubbish.avi",
                           rubbish(30)), 49, "damaged",
         numbered=False),
    Case("rubbish-hevc.mkv", of(clip("clean-hevc.mkv", codec="libx265", options=HEVC), "rubbish-hevc.mkv",
                                rubbish(30)), 49, "damaged",
         numbered=False),
    Case("no-keyframe.mkv", of(clip("with-keyframe.mkv", options=OPEN), "no-keyframe.mkv", rubbish(24)), 49,
         "damaged", numbered=False),
]  # fmt: skip

CASES = {case.name: case for case in (*CONTAINERS, *TIMES, *SOUND, *OTHERS, *DAMAGED)}
