"""Command line: `birefnet-serve up`, `birefnet-serve demo`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app import __version__
from serve_app.local import Profile, StartError, free_port, is_free, running

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
errors = Console(stderr=True)

Config = Annotated[Path, typer.Option(help="Profile: a Serve config such as config/local.yaml.")]
DataDir = Annotated[Path | None, typer.Option(help="Job table and artifacts (default: the profile's).")]


@app.callback()
def main() -> None:
    """Video background removal by BiRefNet, self-hosted."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def up(
    config: Config = Path("config/local.yaml"),
    port: Annotated[int | None, typer.Option(help="HTTP port (default: the profile's).")] = None,
    files_port: Annotated[int | None, typer.Option(help="Port for downloads.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Start the service with a Ray of its own; stop all of it on SIGTERM or Ctrl-C."""
    stop = threading.Event()

    def ask_to_stop(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt  # also leaves a start that is under way

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        with running(load_profile(config, port, files_port, data_dir)) as profile:
            # Ray puts handlers of its own in place when it starts.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            errors.print(
                f"data in {profile.settings.data_dir}, logs in {profile.logs_dir}, "
                f"downloads on port {profile.settings.files.port}"
            )
            print(f"ready {profile.url}", flush=True)
            stop.wait()
            errors.print("stopping")
    except KeyboardInterrupt:
        errors.print("stopped before it was ready")
    except StartError as error:
        errors.print(f"cannot start: {error}")
        raise typer.Exit(2) from error


@app.command()
def demo(
    clip: Annotated[Path, typer.Option(help="The video to cut out.")] = Path(
        "tests/data/clips/bigbuckbunny.mp4"
    ),
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("demo-output"),
    config: Config = Path("config/local.yaml"),
) -> None:
    """Cut a clip out to a transparent WebM and an MP4, and draw a contact sheet to look at."""
    from serve_app.demo import run_demo

    if not clip.is_file():
        errors.print(f"{clip} does not exist: run this in the repository, or name a video with --clip")
        raise typer.Exit(2)
    try:
        run_demo(clip, out, config)
    except StartError as error:
        errors.print(f"cannot start: {error}")
        raise typer.Exit(2) from error


def load_profile(config: Path, port: int | None, files_port: int | None, data_dir: Path | None) -> Profile:
    """The profile with what the command line says; downloads go to a free port when the profile's is taken."""
    overrides: dict[str, object] = {"data_dir": data_dir} if data_dir else {}
    profile = Profile.load(config, port, **overrides)
    if files_port is None and not is_free(profile.settings.files.port):
        files_port = free_port()
    if files_port is not None:
        profile = Profile.load(config, port, files={"port": files_port}, **overrides)
    return profile


if __name__ == "__main__":
    app()
