"""The figures in a job's progress lines."""

from __future__ import annotations

from serve_app.jobs.model import Progress
from serve_app.runner.progress import ProgressMeter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_rate_is_told_before_one_is_known() -> None:
    meter = ProgressMeter(132, 0, Clock())
    assert str(meter) == "0/132 frames"
    assert meter.progress() == Progress("segmenting", 0, 132, None, None)


def test_the_rate_leaves_out_the_start() -> None:
    """The first chunk waits for the network to load: the rate counts from its end as soon as there is a second."""
    clock = Clock()
    meter = ProgressMeter(96, 0, clock)
    clock.now += 12.0
    meter.add(24)
    assert str(meter) == "24/96 frames, 2.0 frames/s, 36 s left"
    clock.now += 4.0
    meter.add(24)
    assert str(meter) == "48/96 frames, 6.0 frames/s, 8 s left"
    clock.now += 3.0
    assert str(meter) == "48/96 frames, 6.0 frames/s, 5 s left"
    assert meter.progress() == Progress("segmenting", 48, 96, 6.0, 5.0)
    clock.now += 60.0
    assert str(meter) == "48/96 frames, 6.0 frames/s, 0 s left"


def test_frames_of_an_earlier_attempt_count_as_done_and_not_as_speed() -> None:
    clock = Clock()
    meter = ProgressMeter(100, 50, clock)
    clock.now += 10.0
    meter.add(20)
    assert str(meter) == "70/100 frames, 2.0 frames/s, 15 s left"
    clock.now += 10.0
    meter.add(30)
    assert str(meter) == "100/100 frames"
    assert meter.progress() == Progress("segmenting", 100, 100, 3.0, 0.0)
    assert meter.summary() == "segmented 50 frames in 20.0 s (2.5 frames/s)"


def test_long_times_are_readable() -> None:
    for total, left in ((100_000, "2 h 46 min left"), (6000, "9 min 50 s left"), (690, "59 s left")):
        clock = Clock()
        meter = ProgressMeter(total, 0, clock)
        clock.now += 10.0
        meter.add(100)
        assert str(meter).endswith(f", 10.0 frames/s, {left}")


def test_lines_come_every_second_at_first_and_rarely_in_the_end() -> None:
    clock = Clock()
    meter = ProgressMeter(10, 0, clock)
    assert meter.pause_s == 1.0
    clock.now += 7200.0
    assert meter.pause_s == 24.0
