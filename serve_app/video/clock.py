"""Presentation times for sources whose container has none that can be used.

The rule depends on nothing but the packets and frames since the start of the file, so every decoder that
starts there finds the same times.
"""

from __future__ import annotations

import heapq
from fractions import Fraction

_JUMP = 1  # seconds; a step back by more than this is a new timeline, by less a stutter


class Clock:
    """Gives each decoded frame a time later than the frame before it.

    `reorders`: the container has one time per packet in decoding order (as in AVI), so that the n-th frame shown
    takes the n-th smallest of them. Otherwise a frame keeps its own time where that is later than the one
    before; after a stutter it comes one tick later; after a jump back the rest moves along.
    """

    def __init__(self, time_base: Fraction, reorders: bool) -> None:
        self._jump = int(_JUMP / time_base)
        self._reorders = reorders
        self._waiting: list[int] = []
        self._step = 1
        self._shift = 0
        self.shifts: list[int] = []  # of the times after each jump back
        self._last: int | None = None

    def packet(self, time: int | None, duration: int | None) -> None:
        """A packet goes into the decoder."""
        if duration:
            self._step = duration
        if self._reorders and time is not None:
            heapq.heappush(self._waiting, time)

    def frame(self, time: int | None) -> int:
        """A frame comes out of the decoder: its time in ticks."""
        if self._reorders:
            time = heapq.heappop(self._waiting) if self._waiting else None
        if self._last is None:
            self._last = 0 if time is None else time
            return self._last
        if time is None:
            now = self._last + self._step
        else:
            now = time + self._shift
            if now <= self._last - self._jump:
                self._shift += self._last + self._step - now
                self.shifts.append(self._shift)
                now = self._last + self._step
        self._last = max(now, self._last + 1)
        return self._last
