"""The content of a file, decoded with PyAV."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext


@dataclass(frozen=True)
class Media:
    """A decoded video. `grey` and `alpha`: [N, H, W] uint8, alpha None where there is none; `times`: seconds."""

    codec: str
    pixel_format: str
    width: int
    height: int
    times: tuple[Fraction, ...]
    grey: np.ndarray
    alpha: np.ndarray | None
    alpha_mode: str | None
    audio: tuple[str, int, str] | None  # codec, channels, layout


def shown_at(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    """The second at which a decoded frame begins."""
    assert frame.pts is not None and frame.time_base is not None
    return frame.pts * frame.time_base


def read(path: Path) -> Media:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: VideoCodecContext = stream.codec_context
        if decoder.name == "vp9":  # FFmpeg's native decoder drops alpha
            decoder = VideoCodecContext.create("libvpx-vp9", "r")
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        audio = None
        if container.streams.audio:
            context = container.streams.audio[0].codec_context
            audio = (context.name, context.layout.nb_channels, context.layout.name)
        name = frames[0].format.name
        transparent = name.startswith(("yuva", "bgra", "rgba", "gbrap"))
        return Media(
            codec=stream.codec_context.name,
            pixel_format=name,
            width=frames[0].width,
            height=frames[0].height,
            times=tuple(shown_at(frame) for frame in frames),
            grey=np.stack([frame.to_ndarray(format="gray") for frame in frames]),
            alpha=np.stack([frame.to_ndarray(format="rgba")[:, :, 3] for frame in frames])
            if transparent
            else None,
            alpha_mode={k.lower(): v for k, v in stream.metadata.items()}.get("alpha_mode"),
            audio=audio,
        )
