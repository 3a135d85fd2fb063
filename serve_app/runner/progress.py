"""Measures a job's progress: frames done, frames per second, and the remaining time."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.jobs.model import Progress

STAGE = "segmenting"
TICK_S = 1.0
TICKS = 300  # for long jobs the interval grows: a line per second would be thousands


class ProgressMeter:
    """Counts the finished frames of `total`, starting from `resumed`, the frames of an earlier attempt."""

    def __init__(self, total: int, resumed: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = resumed
        self._clock = clock
        self._started = clock()
        self._resumed = resumed
        self._first: tuple[float, int] | None = None  # end of the first chunk, frames done by then
        self._last = self._started

    def add(self, frames: int) -> None:
        """Count a finished chunk."""
        self.done += frames
        self._last = self._clock()
        self._first = self._first or (self._last, self.done)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started

    @property
    def pause_s(self) -> float:
        """Seconds until the next progress line is due."""
        return max(TICK_S, self.elapsed_s / TICKS)

    @property
    def rate(self) -> float | None:
        """Frames per second, or None. Measured after the first chunk, whose time includes loading the network."""
        if self._first is None:
            return None
        when, done = self._first
        if self.done > done and self._last > when:
            return (self.done - done) / (self._last - when)
        return (self.done - self._resumed) / max(self._last - self._started, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the last frame is finished, or None."""
        rate = self.rate
        if not rate:
            return None
        if self.done >= self.total:
            return 0.0
        return max((self.total - self.done) / rate - (self._clock() - self._last), 0.0)

    def progress(self) -> Progress:
        """The figures for the job table."""
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
