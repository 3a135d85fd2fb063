"""Times for sources that have none of their own."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from serve_app.video.clock import Clock

TICK = Fraction(1, 1000)


def run(packets: list[int | None], frames: list[int | None], reorders: bool = False) -> list[int]:
    clock = Clock(TICK, reorders)
    out = []
    for packet, frame in zip(packets, frames, strict=True):
        clock.packet(packet, 40)
        out.append(clock.frame(frame))
    return out


def test_good_times_stay() -> None:
    assert run([0, 80, 40, 120], [0, 40, 80, 120]) == [0, 40, 80, 120]


def test_no_times_at_all() -> None:
    assert run([None] * 4, [None] * 4) == [0, 40, 80, 120]


def test_decoding_order_is_sorted() -> None:
    assert run([1, 2, 3, 4], [1, 3, 2, 4], reorders=True) == [1, 2, 3, 4]


def test_a_stutter_does_not_shift_what_follows() -> None:
    assert run([0, 40, 40, 120], [0, 40, 40, 120]) == [0, 40, 41, 120]


def test_a_jump_back_goes_on() -> None:
    assert run([5000, 5040, 0, 40], [5000, 5040, 0, 40]) == [5000, 5040, 5080, 5120]


@given(st.lists(st.none() | st.integers(-(10**6), 10**6)), st.booleans())
def test_times_grow(times: list[int | None], reorders: bool) -> None:
    out = run(times, times, reorders)
    assert all(b > a for a, b in pairwise(out))
