"""Detects truncated files by the sizes that the container declares, without decoding or indexing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TS_PACKET = 188  # bytes, ISO/IEC 13818-1
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(frozen=True, slots=True)
class Structure:
    """The completeness of a file.

    missing: declared bytes beyond the end of the file.
    fragmented: whether it is a fragmented MP4, which can be played even if truncated.
    """

    missing: int = 0
    fragmented: bool = False


def structure_of(path: Path) -> Structure:
    """Check the top level of MP4, Matroska, RIFF and MPEG-TS; other files count as complete."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(TS_PACKET + 1)
        if head[:1] == head[TS_PACKET:] == b"G":
            return Structure(-size % TS_PACKET)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes(file, size)
        if head[:4] == _EBML:
            return Structure(max(0, _segment_end(file) - size))
        if head[:4] == b"RIFF":
            return Structure(max(0, 8 + int.from_bytes(head[4:8], "little") - size))
    return Structure()


def _boxes(file: BinaryIO, size: int) -> Structure:
    """ISO/IEC 14496-12, 4.2: a 32-bit size and a name; size 1: a 64-bit size follows; size 0: until the end."""
    at, fragmented = 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        fragmented |= head[4:8] == b"moof"
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:
            at = size
        elif length < 8 or not head[4:8].isalnum():  # not a box: data after the last box is ignored
            break
        else:
            at += length
    return Structure(max(0, at - size), fragmented)


def _segment_end(file: BinaryIO) -> int:
    """The declared end of a Matroska file (RFC 8794 and 9559), or 0 if unknown."""
    file.seek(4)
    length, at = _vint(file, 4)
    file.seek(at + length)
    if file.read(4) != _SEGMENT:
        return 0
    length, begin = _vint(file, at + length + 4)
    return begin + length if length else 0


def _vint(file: BinaryIO, at: int) -> tuple[int, int]:
    """A variable-size integer (0 for "unknown") and the offset after it."""
    first = (file.read(1) or b"\x80")[0]
    width = 9 - first.bit_length()
    data = bytes([first]) + file.read(width - 1)
    value = int.from_bytes(data, "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width
