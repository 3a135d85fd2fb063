"""Arrays in memory that a replica shares with one media process.

The memory is sealed: its size is fixed, so that a process cannot take it away under the replica's hands.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.picture import PixelLayout

Slot = tuple[tuple[int, ...], str]  # shape and sample type of one array
_SEALS = 1 | 2 | 4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
_ADD_SEALS = 1033  # F_ADD_SEALS of <linux/fcntl.h>, which Python's `fcntl` lacks


class SharedMemory:
    """Memory for arrays like `slots`. Only pages that are written to occupy any."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.size = sum(map(_pages, slots)) or mmap.PAGESIZE
        self.descriptor = os.memfd_create("planes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, self.size)
        fcntl.fcntl(self.descriptor, _ADD_SEALS, _SEALS)
        self._map = mmap.mmap(self.descriptor, self.size)
        self._lent: weakref.ref[npt.NDArray[np.uint8]] | None = None

    def arrays(self, slots: Sequence[Slot]) -> tuple[npt.NDArray[Any], ...]:
        """Arrays like `slots`, in this memory. It must have the size for them."""
        whole = np.frombuffer(self._map, np.uint8)
        self._lent = weakref.ref(whole)
        return arrays_in(whole, slots)

    def serves(self, slots: Sequence[Slot]) -> bool:
        """Whether arrays like `slots` fit, and none of the last ones exists any more."""
        return (self._lent is None or self._lent() is None) and sum(map(_pages, slots)) <= self.size


def mapped(descriptor: int) -> npt.NDArray[np.uint8]:
    """The memory behind a descriptor of `SharedMemory`."""
    return np.frombuffer(mmap.mmap(descriptor, os.fstat(descriptor).st_size), np.uint8)


def arrays_in(whole: npt.NDArray[np.uint8], slots: Sequence[Slot]) -> tuple[npt.NDArray[Any], ...]:
    """Arrays like `slots`, one after the other, each from the start of a page."""
    arrays, at = [], 0
    for slot in slots:
        shape, kind = slot
        arrays.append(whole[at : at + _bytes(slot)].view(kind).reshape(shape))
        at += _pages(slot)
    return tuple(arrays)


def plane_slots(layout: PixelLayout, count: int) -> tuple[Slot, ...]:
    """The planes of `count` frames."""
    kind = np.dtype(layout.sample_type).str
    return tuple(((count, *size), kind) for size in layout.plane_sizes)


def slot_of(array: npt.NDArray[Any]) -> Slot:
    return array.shape, array.dtype.str


def _bytes(slot: Slot) -> int:
    shape, kind = slot
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize


def _pages(slot: Slot) -> int:
    return -(-_bytes(slot) // mmap.PAGESIZE) * mmap.PAGESIZE
