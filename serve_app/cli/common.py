"""What the commands share: options, the profile they work on, errors in one line, examples in `--help`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from serve_app.errors import SetupError
from serve_app.local.profile import Profile

PROGRAM = "birefnet-serve"
LOCAL_PROFILE = Path("config/local.yaml")

Config = Annotated[Path, typer.Option(help="Profile: a Serve config such as config/local.yaml.")]
DataDir = Annotated[Path | None, typer.Option(help="Job table and artifacts (default: the profile's).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[
    str | None, typer.Option(envvar="FAL_KEY", help="API key of the service.", show_default=False)
]

errors = Console(stderr=True, markup=False, highlight=False)


def load(config: Path, data_dir: Path | None = None, port: int | None = None, **overrides: Any) -> Profile:
    """The profile with the command line's overrides, which are fields of `Settings`. Raises `SetupError`."""
    if data_dir is not None:
        overrides["data_dir"] = data_dir.absolute()
    return Profile.load(config, port, **overrides)


@contextmanager
def setup_errors(prefix: str = "") -> Iterator[None]:
    """Prints a `SetupError` in one line and exits with status 2."""
    try:
        yield
    except SetupError as error:
        errors.print(f"{prefix}{error}", soft_wrap=True)
        raise typer.Exit(2) from error


def examples(*commands: str) -> str:
    """The epilog of a command's help: what can be typed, without the program's name in `commands`."""
    return "\n\n".join(["Examples:", *(f"{PROGRAM} {command}" for command in commands)])
