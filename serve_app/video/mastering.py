"""Static HDR metadata in a MOV: the boxes 'mdcv' and 'clli' in the sample entry, which PyAV cannot write.

Joining copies them from the pieces. ISO/IEC 14496-12, 12.1.6 and 12.1.7; QuickTime files hold the same.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from serve_app.picture import HdrMetadata

_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_HEADER = 8  # size and name


def write_mastering(path: Path, hdr: HdrMetadata) -> None:
    """Add `hdr` to the first track of a MOV whose 'moov' box is at the end of the file, as FFmpeg writes it."""
    boxes = _boxes(hdr)
    if boxes:
        add_to_sample_entry(path, boxes)


def _boxes(hdr: HdrMetadata) -> bytes:
    boxes = b""
    if hdr.chromaticities and hdr.luminance:
        red, green, blue, white = (hdr.chromaticities[at : at + 2] for at in range(0, 8, 2))
        boxes += struct.pack(">I4s8H2I", 32, b"mdcv", *green, *blue, *red, *white, *hdr.luminance)
    if hdr.light:
        boxes += struct.pack(">I4s2H", 12, b"clli", *(min(level, 0xFFFF) for level in hdr.light))
    return boxes


def add_to_sample_entry(path: Path, boxes: bytes) -> None:
    """Append `boxes` to the first sample entry, and enlarge all enclosing boxes."""
    with path.open("r+b") as file:
        moov = _seek_to(file, b"moov")
        index = bytearray(file.read())
        at, parents = 0, []
        for name in _ENTRY:
            at = _find(index, name, at)
            parents.append(at)
            at += _HEADER
        at += 8  # version and flags, number of entries
        parents.append(at)
        end = at + _size(index, at)
        for parent in parents:
            struct.pack_into(">I", index, parent, _size(index, parent) + len(boxes))
        index[end:end] = boxes
        file.seek(moov)
        file.write(index)


def _seek_to(file: BinaryIO, name: bytes) -> int:
    """Seek to the first top-level box of that name, and return its offset."""
    at = 0
    while True:
        file.seek(at)
        size, found = struct.unpack(">I4s", file.read(_HEADER))
        if found == name:
            file.seek(at)
            return at
        at += size if size != 1 else struct.unpack(">Q", file.read(8))[0]  # 1: a 64-bit size follows


def _find(data: bytearray, name: bytes, at: int) -> int:
    while data[at + 4 : at + 8] != name:
        at += _size(data, at)
    return at


def _size(data: bytearray, at: int) -> int:
    size: int = struct.unpack_from(">I", data, at)[0]
    return size
