"""Refuses MP4 and MOV files that declare more samples than they have bytes, before FFmpeg makes an index of them.

Some boxes state any number of samples in a few bytes: constant sizes (`stsz`), runs of equal durations (`stts`,
`ctts`), samples in each chunk (`stsc`), fragments with defaults only (`trun`). FFmpeg allocates an entry for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from serve_app.errors import UnsupportedVideo

_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"))
_TABLES = {b"stts": 2, b"ctts": 2, b"stsc": 3}  # 32-bit numbers in each entry
_HEADER, _FULL = 8, 4  # bytes of a box, and of version and flags
_PER_SAMPLE = 0x000F00  # flags of `trun`: a field for each sample
_LARGEST = 1 << 26  # bytes read of one table; a larger one has more entries than a source may have frames


def check_sample_tables(path: Path) -> None:
    """Raise `UnsupportedVideo` if a table of the file at `path` declares more samples than the file has bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(_HEADER)[4:] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp"):
            _Tables(file, size).check(0, size)


class _Tables:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._fragments = 0  # samples in all fragments
        self._runs: npt.NDArray[np.int64] | None = None  # of the current track: first chunk, samples in each

    def check(self, start: int, end: int, depth: int = 0) -> None:
        """Check the boxes in a range of the file (ISO/IEC 14496-12, 4.2)."""
        at = start
        while at + _HEADER <= end:
            self._file.seek(at)
            head = self._file.read(2 * _HEADER)
            length, name, body = int.from_bytes(head[:4], "big"), head[4:8], at + _HEADER
            if length == 1:
                length, body = int.from_bytes(head[8:16], "big"), at + 2 * _HEADER
            after = end if length == 0 else min(at + length, end)
            if after < body:
                return  # no box: what follows the last one is ignored
            if name in _PARENTS and depth < len(_PARENTS):
                self.check(body, after, depth + 1)
            else:
                self._box(name, body, after)
            at = after

    def _box(self, name: bytes, body: int, end: int) -> None:
        numbers = self._numbers(body + _FULL, min(end, body + _FULL + 8))
        if name == b"stsz" and len(numbers) == 2 and numbers[0]:
            self._limit(int(numbers[1]))
        elif name in _TABLES and len(numbers):
            width = _TABLES[name]
            entries = self._numbers(
                body + _FULL + 4, min(end, body + _FULL + 4 + 4 * width * int(numbers[0]))
            )
            entries = entries[: len(entries) // width * width].reshape(-1, width)
            if name == b"stsc":
                self._runs = entries
            else:
                self._limit(int(entries[:, 0].sum()))
        elif name in (b"stco", b"co64") and len(numbers):
            self._chunks(int(numbers[0]))
        elif name == b"trun" and len(numbers):
            self._file.seek(body)
            flags = int.from_bytes(self._file.read(_FULL), "big")
            if not flags & _PER_SAMPLE:
                self._fragments += int(numbers[0])
                self._limit(self._fragments)

    def _chunks(self, count: int) -> None:
        """Samples in `count` chunks, by the runs of the same track. `stsc` comes first in all writers' files."""
        if self._runs is not None and len(self._runs):
            first = np.minimum(self._runs[:, 0], count + 1)
            lengths = np.maximum(np.diff(np.append(first, count + 1)), 0)
            self._limit(sum(a * b for a, b in zip(lengths.tolist(), self._runs[:, 1].tolist(), strict=True)))
        self._runs = None

    def _numbers(self, start: int, end: int) -> npt.NDArray[np.int64]:
        self._file.seek(start)
        data = self._file.read(max(0, min(end - start, _LARGEST)))
        return np.frombuffer(data[: len(data) // 4 * 4], ">u4").astype(np.int64)

    def _limit(self, samples: int) -> None:
        if samples > self._size:
            raise UnsupportedVideo(
                f"The file is damaged: its header declares {samples} samples, but the file has only {self._size} bytes."
            )
