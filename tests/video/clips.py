"""Small clips made by PyAV at test time: a moving square over a gradient.

`make(path, Clip(...))` writes one, `CLIPS` names those that several tests use. Frame n carries n as 10 black
or white blocks in its top rows, so that a decoded frame names itself (`number_of`), whatever the codec did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

BEEP = Fraction(1, 2), Fraction(7, 10)  # seconds
BITS = 10  # of the frame number written into each frame


@dataclass(frozen=True)
class Clip:
    """What a synthetic clip is made of. `pts` are ticks of `time_base`, one per frame."""

    name: str
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    width: int = 96
    height: int = 64
    frames: int = 50
    rate: Fraction = Fraction(25)
    time_base: Fraction | None = None
    pts: Sequence[int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    rotation: int = 0  # counter-clockwise, as FFmpeg counts
    tags: tuple[int, int, int, int] | None = None  # matrix, range, primaries, transfer
    aspect: Fraction = Fraction(1)
    audio: str | None = None
    audio_rate: int = 48000
    audio_layout: str = "stereo"
    audio_start: float = 0.0
    audio_seconds: float | None = None
    audio_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    audio_metadata: dict[str, str] = field(default_factory=dict)
    clap: bool = False  # the lower half flashes while `tone` beeps
    last_s: float | None = None  # how long the last frame is shown, if longer than the others


X264 = {"preset": "veryfast", "g": "12", "bf": "3", "crf": "18", "threads": "1"}
OPEN = X264 | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:b-pyramid=normal"}
VP9 = {
    "deadline": "realtime",
    "cpu-used": "8",
    "g": "12",
    "crf": "20",
    "b": "0",
    "auto-alt-ref": "0",
    "threads": "1",
}
LOSSLESS = {"level": "3", "g": "1", "threads": "1"}  # of FFV1
FINE = {"movie_timescale": "90000"}  # else an MP4 rounds the time of its first frame to milliseconds
NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
CLOCK = Fraction(1, 90000)
LATE = tuple(90000 * 36000 + number * 3003 for number in range(50))  # begins after ten hours
VFR = tuple(1234 + number * 3003 + number * number * 37 % 997 for number in range(50))


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Frame `number` as RGB uint8 [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 // width + 20, y * 200 // height + 20, (x + y + number * 3) % 200 + 20], -1)
    left = (number * 2) % max(width - 20, 1)
    rgb[height // 2 : height // 2 + 16, left : left + 16] = (240, 30, 60)
    for bit in range(BITS):
        block = slice(bit * width // BITS, (bit + 1) * width // BITS)
        rgb[: height // 4, block] = 235 if number >> bit & 1 else 16
    return rgb.astype(np.uint8)


def number_of(luma: np.ndarray, white: int = 255) -> int:
    """The number that `picture` wrote into a frame, read from its luma (or green) plane."""
    height, width = luma.shape
    rows = slice(height // 16 + 1, height // 4 - height // 16)
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(middles) if luma[rows, x].mean() > white / 2)


def tone(seconds: float, rate: int, channels: int) -> np.ndarray:
    """[channels, samples] float32: channel c beeps at (c + 2) x 110 Hz from 0.5 s to 0.7 s, else is silent."""
    t = np.arange(int(seconds * rate)) / rate
    on = (t >= float(BEEP[0])) & (t < float(BEEP[1]))
    beeps = [0.5 * on * np.sin(2 * np.pi * 110 * (channel + 2) * t) for channel in range(channels)]
    return np.stack(beeps).astype(np.float32)


def make(path: Path, clip: Clip) -> Path:
    """Writes `clip` to `path`."""
    time_base = clip.time_base or 1 / clip.rate
    pts = clip.pts if clip.pts is not None else range(clip.frames)
    with av.open(str(path), "w", options=clip.container) as out:
        video = out.add_stream(clip.codec, rate=clip.rate, options=dict(clip.options))
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.pixel_format
        video.codec_context.time_base = time_base
        video.codec_context.sample_aspect_ratio = clip.aspect
        video.codec_context.flags |= Flags.bitexact
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        if clip.tags:
            context = video.codec_context
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = clip.tags
        out.metadata.update(clip.metadata)

        def mux(packets: list[Any]) -> None:
            for packet in packets:
                if clip.last_s and packet.pts * packet.time_base == pts[-1] * time_base:
                    packet.duration = round(clip.last_s / packet.time_base)
                out.mux(packet)

        sound = _sound(out, clip, clip.audio) if clip.audio else None
        for number, time in enumerate(pts):
            rgb = picture(number, clip.width, clip.height)
            if clip.clap and BEEP[0] <= (time - pts[0]) * time_base < BEEP[1]:
                rgb[clip.height // 2 :] = 255
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            matrix, range_ = (clip.tags[0], clip.tags[1]) if clip.tags else (5, 1)
            frame = frame.reformat(
                format=clip.pixel_format, dst_colorspace=matrix, dst_color_range=range_, src_color_range=2
            )
            frame.pts, frame.time_base = time, time_base
            mux(video.encode(frame))
            if sound:
                sound(float((time - pts[0]) * time_base) + 0.1)
        mux(video.encode(None))
        if sound:
            sound(float("inf"))
    return path


def _sound(out: av.container.OutputContainer, clip: Clip, codec: str) -> Callable[[float], None]:
    stream = out.add_stream(codec, rate=clip.audio_rate, options=dict(clip.audio_options))
    assert isinstance(stream, av.AudioStream)
    stream.metadata.update(clip.audio_metadata)
    context = stream.codec_context
    context.layout = clip.audio_layout
    context.flags |= Flags.bitexact
    channels = av.AudioLayout(clip.audio_layout).nb_channels
    seconds = clip.audio_seconds if clip.audio_seconds is not None else clip.frames / float(clip.rate)
    samples = tone(seconds, clip.audio_rate, channels)
    resampler: av.AudioResampler | None = None
    written, done, shift = 0, False, round(clip.audio_start * clip.audio_rate)

    def upto(time: float) -> None:
        nonlocal written, done, resampler
        if done:
            return
        if resampler is None:
            out.start_encoding()
            size = context.frame_size or 1024
            resampler = av.AudioResampler(context.format, context.layout, clip.audio_rate, frame_size=size)
        while written < samples.shape[1] and written / clip.audio_rate < time:
            part = samples[:, written : written + 1024]
            packed = np.ascontiguousarray(part.T).reshape(1, -1)  # PyAV fails on eight planes
            frame = av.AudioFrame.from_ndarray(packed, "flt", clip.audio_layout)
            frame.sample_rate, frame.pts = clip.audio_rate, written + shift
            frame.time_base = Fraction(1, clip.audio_rate)
            written += part.shape[1]
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        if written >= samples.shape[1]:
            for piece in resampler.resample(None):
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
            done = True

    return upto


def _ffv1(name: str, pixel_format: str, **more: Any) -> Clip:
    return Clip(name, codec="ffv1", pixel_format=pixel_format, frames=9, options=LOSSLESS, **more)


_ALL = [
    Clip("closed.mp4", options=X264),
    Clip("open.mp4", options=OPEN),
    Clip("open.mov", options=OPEN),
    Clip("open.mkv", options=OPEN),
    Clip("open.ts", options=OPEN, audio="aac"),
    Clip("mpeg2.ts", codec="mpeg2video", options={"bf": "2", "g": "12", "threads": "1"}),
    Clip("vp9.webm", codec="libvpx-vp9", options=VP9, audio="libopus"),
    Clip("vp9film.webm", codec="libvpx-vp9", options=VP9, rate=FILM),
    Clip("plain.avi", codec="mpeg4", options={"g": "12", "threads": "1"}),
    Clip("bframes.avi", codec="mpeg4", options={"g": "12", "bf": "2", "threads": "1"}),
    Clip("x264.avi", options=X264),
    Clip("raw.h264", options=X264),
    Clip(
        "hevc.mp4",
        codec="libx265",
        options={"x265-params": "keyint=12:log-level=none:pools=1:frame-threads=1"},
    ),
    Clip(
        "fragmented.mp4", options=X264, container={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    Clip("film.mp4", options=X264, rate=FILM),
    Clip("vfr.mp4", options=X264, rate=NTSC, time_base=CLOCK, pts=VFR, container=FINE),
    Clip("vfr.ts", options=OPEN, rate=NTSC, time_base=CLOCK, pts=VFR),
    Clip("late.mp4", options=X264, time_base=CLOCK, rate=NTSC, pts=LATE, container=FINE),
    Clip("odd.mp4", pixel_format="yuv444p", width=95, height=63, options=X264),
    Clip("aspect.mp4", options=X264, aspect=Fraction(4, 3), rotation=90),
    Clip("full.mp4", options=X264, tags=(1, 2, 1, 1)),
    Clip("hd.mp4", options=X264, tags=(1, 1, 1, 1), audio="aac"),
    Clip("hdr.mp4", pixel_format="yuv420p10le", options=X264, tags=(9, 1, 9, 16)),
    Clip("turned90.mp4", options=X264, rotation=90),
    Clip("turned180.mp4", options=X264, rotation=180),
    Clip("turned270.mp4", options=X264, rotation=270),
    Clip("turned422.mp4", pixel_format="yuv422p", options=X264, rotation=90),
    Clip("deep422.mp4", pixel_format="yuv422p10le", options=X264),
    _ffv1("odd420.mkv", "yuv420p", width=95, height=63),
    _ffv1("odd422.mkv", "yuv422p", width=95, height=63),
    _ffv1("p444.mkv", "yuv444p"),
    _ffv1("p411.mkv", "yuv411p"),
    _ffv1("p440.mkv", "yuv440p"),
    _ffv1("deep16.mkv", "yuv444p16le"),
    _ffv1("rgb.mkv", "bgr0"),
    _ffv1("rgb10.mkv", "gbrp10le"),
    _ffv1("rgba.mkv", "bgra"),
    _ffv1("yuva.mkv", "yuva420p"),
    _ffv1("gray.mkv", "gray"),
    _ffv1("gray16.mkv", "gray16le"),
    Clip("palette.gif", codec="gif", pixel_format="bgr8", frames=9),
    Clip("jpeg.avi", codec="mjpeg", pixel_format="yuvj420p", frames=9, tags=(5, 2, 2, 2)),
]
CLIPS = {clip.name: clip for clip in _ALL}
