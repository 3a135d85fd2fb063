"""Small clips of the containers and codecs that strangers send most: what hostile files are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.video.clips import LOSSLESS, VP9, X264, Clip, make

_BASE = Clip("", frames=6, width=64, height=48, options=X264)
_PLAIN = replace(_BASE, options={})

_CLIPS = {
    "mp4": replace(_BASE, audio="aac", audio_seconds=0.24),
    "fragmented.mp4": replace(_BASE, container={"movflags": "frag_keyframe+empty_moov"}),
    "mkv": replace(_PLAIN, codec="libx265", options={"x265-params": "log-level=none"}),
    "webm": replace(_PLAIN, codec="libvpx-vp9", options=VP9),
    "avi": replace(_PLAIN, codec="mpeg4"),
    "ts": replace(_PLAIN, codec="mpeg2video"),
    "flv": _BASE,
    "mov": replace(_PLAIN, codec="prores_ks", pixel_format="yuv422p10le"),
    "ffv1.mkv": replace(_PLAIN, codec="ffv1", options=LOSSLESS),
    "av1.mkv": replace(_PLAIN, codec="libsvtav1", options={"preset": "13"}),
    "gif": replace(_PLAIN, codec="gif", pixel_format="bgr8"),
    "wmv": replace(_PLAIN, codec="wmv2"),
}


def good_clips(folder: Path) -> dict[str, Path]:
    """Clips of six frames, by extension."""
    return {
        extension: make(folder / f"good.{extension}", replace(clip, name=f"good.{extension}"))
        for extension, clip in _CLIPS.items()
    }
