"""Generates presentation times for sources whose container has no usable ones.

They depend only on the packets and frames since the start of the file, so all decoders that start there compute the
same times.
"""

from __future__ import annotations

import heapq
from fractions import Fraction

_JUMP = 1  # seconds; a larger jump back starts a new timeline, a smaller one is a stutter


class Clock:
    """Assigns strictly increasing times to decoded frames.

    reorders: packets have timestamps in decoding order (as in AVI), so the n-th frame gets the n-th smallest.
    Otherwise frames keep their own times if these increase. A stutter is moved to one tick after the previous frame;
    after a jump back all following frames are shifted.
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
        """Register a packet that is sent to the decoder."""
        if duration:
            self._step = duration
        if self._reorders and time is not None:
            heapq.heappush(self._waiting, time)

    def frame(self, time: int | None) -> int:
        """Return the time of a decoded frame in ticks."""
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
