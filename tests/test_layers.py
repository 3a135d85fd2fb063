"""The shape of the code: which package may import which, how long a file may be, what a process has to load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 300


def test_imports_point_one_way() -> None:
    """The contracts are in pyproject.toml: a package that is new there has to be given its place."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-logo", "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "serve_app").rglob("*.py")}
    assert len(lengths) > 100
    assert {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("serve_app", ("torch", "transformers", "av", "sqlalchemy", "ray", "pydantic", "numpy")),
        (
            "serve_app.in_process.files, serve_app.in_process.frames",
            ("torch", "transformers", "sqlalchemy", "ray"),
        ),
        ("serve_app.app", ("torch", "transformers", "av", "sqlalchemy")),
        ("serve_app.cli.main", ("torch", "transformers", "av", "sqlalchemy", "ray")),
        ("serve_app.protocols", ("torch", "transformers", "av", "sqlalchemy", "ray", "fastapi")),
        ("serve_app.runner.loop", ("torch", "transformers", "av")),
        ("serve_app.jobs.sql.store", ("torch", "transformers", "av", "ray")),
        ("serve_app.stages.segmenter", ("torch", "transformers", "av", "sqlalchemy")),
        ("serve_app.stages.decoder", ("torch", "transformers", "av", "sqlalchemy")),
        ("serve_app.stages.encoder", ("torch", "transformers", "av", "sqlalchemy")),
        ("serve_app.segmentation.processing", ("av", "sqlalchemy", "ray", "fastapi")),
        ("serve_app.video.join", ("torch", "transformers", "sqlalchemy", "ray", "fastapi")),
        ("serve_app.birefnet.variants", ("torch", "transformers", "huggingface_hub")),
    ],
)
def test_a_process_loads_what_it_uses(module: str, left_out: tuple[str, ...]) -> None:
    """Torch and its library cost every process five seconds and 350 MB; codecs and the database are for a few."""
    code = f"import sys, {module}; print([name for name in {left_out!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
