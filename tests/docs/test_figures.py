"""Tables and the figures that they are made from, held together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import DIRECTORY, Figures, Machine
from benchmarks.report import MARKED, PAGES, tables, written
from benchmarks.tables import TABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_what_the_figures_give(page: Path) -> None:
    text = page.read_text()
    assert written(text, tables()) == text, "run `make bench-report`"


def test_every_table_has_its_place() -> None:
    places = [found[2] for page in PAGES for found in MARKED.finditer(page.read_text())]
    assert sorted(places) == sorted(["headline", *TABLES])
    assert sorted(path.stem for path in DIRECTORY.iterdir()) == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_figures_name_their_machine(name: str) -> None:
    figures = Figures.load(name)
    assert figures.benchmark == name
    assert figures.machine.cpu and figures.machine.cores and figures.machine.date
    assert figures.rows


def test_a_figure_that_was_changed_by_hand_shows(tmp_path: Path) -> None:
    for path in DIRECTORY.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    file = tmp_path / "network.json"
    data = json.loads(file.read_text())
    data["rows"][0]["cpu_s"] += 1
    file.write_text(json.dumps(data))
    page = next(page for page in PAGES if page.name == "5-performance.md").read_text()
    assert written(page, tables(tmp_path)) != page


def test_figures_are_read_as_they_were_saved(tmp_path: Path) -> None:
    figures = Figures("network", {"size": 512}, Machine.here(), [{"network": "tiny", "cpu_s": 1.5}])
    figures.save(tmp_path / "network.json")
    assert Figures.load("network", tmp_path) == figures
    assert figures.row(network="tiny")["cpu_s"] == 1.5
