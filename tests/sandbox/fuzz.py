"""Broken files through the media processes: `python -m tests.sandbox.fuzz NUMBER [FIRST_SEED]`.

A process may end; its replica, which is this program, may not, and every file ends in time, with a typed error or a
finished output.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from serve_app.errors import JobCancelled, SourceError, StageError, WorkTimeout
from serve_app.fal import OutputType
from serve_app.runner.retry import CRASHES
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SandboxSettings, SourceLimits
from tests.sandbox.stages import run
from tests.video.good_clips import good_clips
from tests.video.hostile import mutated

HANG_S = 120.0  # for one file, on a busy machine
LIMITS = SourceLimits(max_frames=10_000, max_pixels=4096 * 4096)
TYPED = (SourceError, StageError, WorkTimeout)


@dataclass
class Figures:
    """Outcomes by the class of the error, and the seeds that need a look."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashed: list[str] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)


def fuzz(number: int, first: int = 0, every: int = 1000) -> Figures:
    """Runs `number` inputs, of the seeds from `first` on."""
    figures, kinds = Figures(), list(OutputType)
    with _prepared() as (sandbox, good, folder):
        names = sorted(good)
        for seed in range(first, first + number):
            name = names[seed % len(names)]
            path = folder / f"input.{name}"
            path.write_bytes(mutated(good[name], seed))
            until = time.monotonic() + HANG_S

            def late(until: float = until) -> bool:
                return time.monotonic() > until

            error = run(sandbox, path, folder, LIMITS, kinds[seed // len(names) % len(kinds)], late).error
            figures.outcomes["finished" if error is None else type(error).__name__] += 1
            if isinstance(error, JobCancelled):
                figures.hung.append(seed)
            elif isinstance(error, CRASHES):
                figures.crashed.append(f"{seed} ({name}): {error}")
            elif error is not None and not isinstance(error, TYPED):
                figures.untyped.append(f"{seed}: {error!r}")
            if (seed - first + 1) % every == 0:
                print(seed - first + 1, dict(figures.outcomes.most_common()), flush=True)
    return figures


@contextmanager
def _prepared() -> Iterator[tuple[Sandbox, dict[str, bytes], Path]]:
    sandbox = Sandbox(SandboxSettings(memory_bytes=1 << 30), threads=1)
    with TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name) / "work"
        folder.mkdir()
        good = {extension: path.read_bytes() for extension, path in good_clips(Path(name)).items()}
        yield sandbox, good, folder


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    figures = fuzz(*map(int, arguments or ["20000"]))
    print(f"{sum(figures.outcomes.values())} inputs in {time.monotonic() - started:.0f} s")
    for outcome, count in figures.outcomes.most_common():
        print(f"{count:7} {outcome}")
    print(
        f"hangs: {figures.hung}", "ended processes:", *figures.crashed, "untyped:", *figures.untyped, sep="\n"
    )
    return 1 if figures.hung or figures.untyped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
