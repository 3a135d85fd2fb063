"""Frames and cutouts whose arrays are in shared memory, as they pass between a replica and a process."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from serve_app.picture import Frames, PixelLayout, Ticks
from serve_app.protocols import Cutout, Provenance
from serve_app.sandbox.memory import SharedMemory, Slot, arrays_in, slot_of

RESULT, FAILURE, PIECE = b"R", b"F", b"P"  # the first byte of a message from a process: its kind


@dataclass(frozen=True, slots=True)
class Decoded:
    """The answer to `decode`: `Frames` without planes. Their slots are in the request."""

    pts: Ticks
    damage: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SharedCutout:
    """A `Cutout` without its planes and its matte, which are the arrays of `slots` in this order."""

    slots: tuple[Slot, ...]
    layout: PixelLayout
    pts: Ticks
    time_base: Fraction
    provenance: Provenance

    @classmethod
    def of(cls, cutout: Cutout) -> tuple[SharedCutout, SharedMemory]:
        """A copy of the cutout in new memory."""
        colour = cutout.colour
        arrays = (*colour.planes, cutout.matte)
        slots = tuple(map(slot_of, arrays))
        memory = SharedMemory(slots)
        for shared, array in zip(memory.arrays(slots), arrays, strict=True):
            shared[...] = array
        return cls(slots, colour.layout, colour.pts, colour.time_base, cutout.provenance), memory

    def within(self, memory: npt.NDArray[np.uint8]) -> Cutout:
        *planes, matte = arrays_in(memory, self.slots)
        frames = Frames(tuple(planes), self.layout, self.pts, self.time_base)
        return Cutout(frames, matte, self.provenance, 0.0)
