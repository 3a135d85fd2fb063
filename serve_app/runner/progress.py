"""How far the frames of a job are, how fast, and how long the rest will take: measured figures only."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.jobs.model import Progress

STAGE = "segmenting"
TICK_S = 1.0
TICKS = 300  # the log of a long job grows ever slower: a line a second would be thousands


class ProgressMeter:
    """Counts finished frames of `total`, `resumed` of which an earlier holder of the job had made."""

    def __init__(self, total: int, resumed: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = resumed
        self._clock = clock
        self._begun = clock()
        self._resumed = resumed
        self._first: tuple[float, int] | None = None  # when the first chunk was finished, frames done by then
        self._last = self._begun

    def add(self, frames: int) -> None:
        """A chunk of so many frames is finished."""
        self.done += frames
        self._last = self._clock()
        self._first = self._first or (self._last, self.done)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._begun

    @property
    def pause_s(self) -> float:
        """Seconds until the next line is due."""
        return max(TICK_S, self.elapsed_s / TICKS)

    @property
    def rate(self) -> float | None:
        """Frames a second, once known: since the first finished chunk, whose own time holds loading the network."""
        if self._first is None:
            return None
        when, done = self._first
        if self.done > done and self._last > when:
            return (self.done - done) / (self._last - when)
        return (self.done - self._resumed) / max(self._last - self._begun, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds until the last frame is finished, once the rate is known."""
        rate = self.rate
        if not rate:
            return None
        if self.done >= self.total:
            return 0.0
        return max((self.total - self.done) / rate - (self._clock() - self._last), 0.0)

    def progress(self) -> Progress:
        """The figures as they are reported to the job table."""
        return Progress(STAGE, self.done, self.total, self.rate, self.left_s)

    def __str__(self) -> str:
        """For example "48/132 frames, 6.1 frames/s, 14 s left"."""
        line = f"{self.done}/{self.total} frames"
        rate, left = self.rate, self.left_s
        if not rate or (not left and self.done >= self.total):
            return line
        return f"{line}, {rate:.1f} frames/s, {_duration(left or 0.0)} left"

    def summary(self) -> str:
        """For example "segmented 132 frames in 24.1 s (5.5 frames/s)"."""
        made = self.done - self._resumed
        return f"segmented {made} frames in {self.elapsed_s:.1f} s ({made / max(self.elapsed_s, 1e-9):.1f} frames/s)"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
