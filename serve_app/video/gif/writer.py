"""Writes GIF files: header, loop extension, and the position, duration and disposal of each image.

FFmpeg only compresses the pixels. Its own GIF encoder keeps a frame without transparent pixels on the canvas, so that
it shows through the next one, and crops against content that has already been cleared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, TypeVar

import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from serve_app.video.gif.palette import Bytes, Colours
from serve_app.video.planes import fill

TICK = Fraction(1, 100)  # seconds
_SHORTEST = 2  # ticks; browsers show shorter images for 10
_LONGEST = 0xFFFF
_LOOP_FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_KEEP, _CLEAR = 1, 2  # disposal methods
_BLACK = 0xFF000000  # any opaque colour will do

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """Palette indices of a part of the picture whose first pixel is at `corner` (row, column)."""

    indices: Bytes
    corner: tuple[int, int]


class GifWriter:
    """Writes images to `file`.

    transparent: index of transparent pixels, or None. If set, the canvas is cleared after each image.
    images: number of images written.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: tuple[int, int],
        palette: Colours,
        transparent: int | None,
    ) -> None:
        self._file, self._transparent = file, transparent
        self.images = 0
        width, height = size
        bits = max(1, (len(palette) - 1 + (transparent is not None)).bit_length())
        table = np.zeros((1 << bits, 3), np.uint8)
        table[: len(palette)] = palette
        file.write(b"GIF89a" + _short(width) + _short(height))
        file.write(bytes((0xF0 | (bits - 1), transparent or 0, 0)))
        file.write(table.tobytes() + _LOOP_FOR_EVER)

    def add(self, image: Image, ticks: int) -> None:
        """Write `image` with a duration of `ticks`."""
        height, width = image.indices.shape
        top, left = image.corner
        clear = self._transparent is not None
        flags = (_CLEAR << 2 | 1) if clear else _KEEP << 2
        pixels = _compressed(image.indices)
        while ticks:  # a duration of more than eleven minutes needs several images
            now = min(ticks, _LONGEST)
            self._file.write(
                b"\x21\xf9\x04" + bytes((flags,)) + _short(now) + bytes((self._transparent or 0, 0))
            )
            self._file.write(b"\x2c" + b"".join(map(_short, (left, top, width, height))) + b"\x00" + pixels)
            self.images += 1
            ticks -= now

    def close(self) -> None:
        self._file.write(b"\x3b")


def paced(frames: Iterable[tuple[Fraction, T]], last: Fraction) -> Iterator[tuple[T, int]]:
    """Convert times in seconds to durations in ticks. The last frame is shown for `last` seconds.

    Times are rounded instead of durations, so errors do not accumulate. Frames that follow the previous one within the
    shortest duration are dropped: above 50 frames per second, evenly.
    """
    held: T | None = None
    start = at = Fraction(0)
    begun = 0
    for at, frame in frames:
        if held is None:
            start, held = at, frame
            continue
        ticks = _ticks(at - start)
        if ticks - begun >= _SHORTEST:
            yield held, ticks - begun
            begun, held = ticks, frame
    if held is not None:
        yield held, max(_SHORTEST, _ticks(at + last - start) - begun)


def _ticks(seconds: Fraction) -> int:
    return (seconds / TICK + Fraction(1, 2)).__floor__()


def _compressed(indices: Bytes) -> bytes:
    """The LZW code size and data blocks of an image, from a GIF of one image that FFmpeg encodes."""
    height, width = indices.shape
    frame = VideoFrame(width, height, "pal8")
    fill(frame.planes[0], indices)
    np.frombuffer(frame.planes[1], "<u4")[:256] = _BLACK  # type: ignore[call-overload]
    frame.pts = 0
    encoder = CodecContext.create("gif", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "pal8", TICK
    encoder.options = {"gifflags": "0"}
    (packet,) = encoder.encode(frame)
    data = bytes(packet)
    at = 13 + _table_size(data[10])  # signature and screen, global palette
    at += 8  # graphic control
    assert data[at] == 0x2C, "unexpected output of FFmpeg's GIF encoder"
    return data[at + 10 + _table_size(data[at + 9]) :]


def _table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _short(number: int) -> bytes:
    return number.to_bytes(2, "little")
