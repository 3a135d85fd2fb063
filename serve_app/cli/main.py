"""The command line, `birefnet-serve`: every command is in the module of its group."""

from __future__ import annotations

import typer

from serve_app import __version__
from serve_app.cli.checkpoints import checkpoints_app
from serve_app.cli.common import examples
from serve_app.cli.cutting import cutting_app
from serve_app.cli.keys import keys_app
from serve_app.cli.requests import requests_app
from serve_app.cli.service import service_app

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)
app.add_typer(cutting_app)
app.add_typer(service_app)
app.add_typer(requests_app)
app.add_typer(checkpoints_app)
app.add_typer(keys_app, name="keys")


@app.callback()
def main() -> None:
    """Self-hosted video background removal with BiRefNet."""


@app.command(epilog=examples("version"))
def version() -> None:
    """Print the version."""
    print(__version__)


if __name__ == "__main__":
    app()
