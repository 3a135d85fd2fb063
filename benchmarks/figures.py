"""A benchmark's figures as a JSON file: what was measured, with which options, and on which machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "docs" / "figures"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when the figures were taken. `load`: runnable processes a minute before, from other work."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    torch: str
    date: str
    load: float

    @classmethod
    def here(cls) -> Machine:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(
            cpu=_cpu(),
            cores=os.cpu_count() or 1,
            memory_gib=round(memory / (1 << 30), 1),
            system=_system(),
            python=platform.python_version(),
            torch=version("torch"),
            date=datetime.now(UTC).date().isoformat(),
            load=round(os.getloadavg()[0], 2),
        )

    @property
    def name(self) -> str:
        """What it is, whenever figures were taken."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:g} GiB, {self.system}, Python {self.python}, "
            f"torch {self.torch}"
        )

    def __str__(self) -> str:
        return f"{self.name}, {self.date} (load before: {self.load:g})"


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of one benchmark. `rows`: those of its table, as JSON values."""

    benchmark: str
    options: dict[str, Any]
    machine: Machine
    rows: Sequence[Row]

    @classmethod
    def load(cls, name: str, directory: Path = DIRECTORY) -> Figures:
        data = json.loads((directory / f"{name}.json").read_text())
        return cls(data["benchmark"], data["options"], Machine(**data["machine"]), data["rows"])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def row(self, **values: Any) -> Row:
        """The one row that has these values."""
        (found,) = (row for row in self.rows if values.items() <= row.items())
        return found


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """The option that every benchmark has."""
    parser.add_argument(
        "--out", type=Path, default=DIRECTORY / f"{name}.json", help="where the figures go, as JSON"
    )


def _cpu() -> str:
    """The processor's own name; the architecture where the kernel does not tell."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"
