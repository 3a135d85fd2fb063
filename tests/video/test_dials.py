"""Quality and write mode: each step of one is better, each step of the other smaller, in every format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product

import pytest

from benchmarks.dials import RATE, Field, cutout, measure
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.protocols import EncodeSettings
from serve_app.video.formats import output_format


@dataclass(frozen=True)
class Table:
    """All fields of one format."""

    output_type: OutputType
    fields: dict[tuple[Quality, WriteMode], Field]


@pytest.fixture(scope="module", params=list(OutputType), ids=lambda kind: kind.name)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Measured on half a second of a film."""
    whole, folder = cutout(request.param, 12, 320, 180), tmp_path_factory.mktemp("dials")
    fields = {}
    for quality, mode in product(Quality, WriteMode):
        settings = EncodeSettings(request.param, quality, mode, 1 / RATE, 0, RATE, Fraction(1))
        fields[quality, mode] = measure(whole, settings, folder)
    return Table(request.param, fields)


def test_quality(table: Table) -> None:
    """Larger and nearer to the source, in each write mode."""
    for mode in WriteMode:
        for worse, better in pairwise(table.fields[quality, mode] for quality in Quality):
            assert worse.size < better.size
            assert worse.colour_db + 0.5 < better.colour_db
            if table.output_type is OutputType.WEBM:
                assert 40 < worse.alpha_db < better.alpha_db


def test_write_mode(table: Table) -> None:
    """Smaller with each step, at each quality; and hardly worse, but for ProRes."""
    for quality in Quality:
        fields = [table.fields[quality, mode] for mode in WriteMode]
        for larger, smaller in pairwise(fields):
            assert smaller.size < larger.size
        if table.output_type is not OutputType.MOV:
            assert min(field.colour_db for field in fields) > fields[0].colour_db - 0.5


def test_alpha(table: Table) -> None:
    """ProRes keeps the matte, a GIF its one bit; MP4 has none."""
    for field in table.fields.values():
        assert math.isinf(field.alpha_db) is (table.output_type in (OutputType.MOV, OutputType.GIF))
        assert math.isnan(field.alpha_db) is (table.output_type is OutputType.MP4)


def test_no_two_fields_are_the_same() -> None:
    for output_type in OutputType:
        form = output_format(output_type)
        dials = {tuple(form.encoder_options(*field).items()) for field in product(Quality, WriteMode)}
        assert len(dials) == 12
