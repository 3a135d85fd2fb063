"""Rewrites the tables of the documentation from the figures in docs/figures/.

python -m benchmarks.report
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks.figures import DIRECTORY, Figures
from benchmarks.tables import TABLES, headline, section

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / name for name in ("5-performance.md", "7-models.md")))
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.S)


def tables(directory: Path = DIRECTORY) -> dict[str, str]:
    """What belongs between the markers of each name."""
    figures = {name: Figures.load(name, directory) for name in TABLES}
    return {"headline": headline(figures)} | {name: section(found) for name, found in figures.items()}


def written(page: str, made: dict[str, str]) -> str:
    """The page with its tables made anew. Raises KeyError for a marker that no table belongs to."""
    return MARKED.sub(lambda found: f"{found[1]}{made[found[2]]}\n{found[3]}", page)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    made = tables()
    for path in PAGES:
        path.write_text(written(path.read_text(), made))
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
