"""Reads the orientation, cropping and HDR metadata of a source from FFmpeg."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterable
from math import atan2, degrees
from typing import Literal

import av.logging
from av.container import InputContainer
from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.picture import Geometry, HdrMetadata

_dumping = threading.Lock()


def geometry_of(frame: VideoFrame, container: InputContainer, stream: VideoStream) -> Geometry:
    """How frames like `frame` become upright."""
    mirrored, rotation = _orientation(_side_data(frame, Type.DISPLAYMATRIX))
    return Geometry(_crop(container, stream), mirrored, rotation)


def _orientation(matrix: bytes | None) -> tuple[bool, Literal[0, 90, 180, 270]]:
    """The (mirroring, clockwise rotation in degrees) nearest to a display matrix; mirroring comes first.

    Its rows (a b u), (c d v), (x y w) send a point (x, y), y pointing down, to (ax + cy, bx + dy): ISO/IEC
    14496-12, 6.2.2. Rotation is rounded to quarter turns; scale and translation are ignored.
    """
    if matrix is None:
        return False, 0
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    quarters: tuple[Literal[0, 90, 180, 270], ...] = (0, 90, 180, 270)
    return mirrored, quarters[round(degrees(atan2(b, a)) / 90) % 4]


def _crop(container: InputContainer, stream: VideoStream) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) samples that the container crops: 'clap' of MP4 and MOV, PixelCrop of Matroska.

    PyAV exposes them only in FFmpeg's description of the file, which is a log message.
    """
    with _dumping:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text: str = container.dumps_format()  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(level)
    own = re.split(rf"Stream #0:{stream.index}\b", text, maxsplit=1)[-1].split("Stream #0:")[0]
    found = re.search(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)", own)
    if found is None:
        return 0, 0, 0, 0
    left, right, top, bottom = map(int, found.groups())
    return left, right, top, bottom


def hdr_metadata(frame: VideoFrame) -> HdrMetadata | None:
    """Static HDR metadata of a frame: structs AVMasteringDisplayMetadata and AVContentLightMetadata."""
    display = _side_data(frame, Type.MASTERING_DISPLAY_METADATA)
    light = _side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    chromaticities = luminance = levels = None
    if display:
        *numbers, has_chromaticities, has_luminance = struct.unpack("=22i", display)
        values = [n / d if d else 0.0 for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
        if has_chromaticities:
            chromaticities = tuple(round(value * 50_000) for value in values[:8])
        if has_luminance:
            luminance = round(values[9] * 10_000), round(values[8] * 10_000)
    if light:
        most, average = struct.unpack_from("=2I", light)
        levels = (most, average) if most or average else None  # zero means not measured
    if chromaticities or luminance or levels:
        return HdrMetadata(chromaticities, luminance, levels)
    return None


def _side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    everything: Iterable[SideData] = frame.side_data  # type: ignore[assignment]
    return next((bytes(data) for data in everything if data.type is kind), None)
