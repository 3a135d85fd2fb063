"""A part of `make fuzz`: the replica outlives all of it, and every file ends with a typed error or an output."""

from __future__ import annotations

import pytest

from tests.sandbox.fuzz import fuzz


@pytest.mark.parametrize(
    ("number", "first"), [pytest.param(24, 0), pytest.param(1000, 20_000, marks=pytest.mark.long)]
)
def test_every_input_has_an_end(number: int, first: int) -> None:
    figures = fuzz(number, first)
    assert sum(figures.outcomes.values()) == number
    assert (figures.hung, figures.untyped) == ([], [])
    assert figures.outcomes["finished"]  # some files are hardly damaged: all stages are reached
