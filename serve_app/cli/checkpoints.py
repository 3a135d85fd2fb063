"""Commands about checkpoints: `models` and `pull`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.common import LOCAL_PROFILE, AsJson, Config, DataDir, errors, examples, load, setup_errors
from serve_app.errors import CheckpointError
from serve_app.settings import EMBEDDED

checkpoints_app = typer.Typer()


@checkpoints_app.command(epilog=examples("models", "models --config config/gpu.yaml --json"))
def models(config: Config = LOCAL_PROFILE, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the models of a profile: checkpoint, network, size, licence, where it is loaded from, how fast it last ran.

    Nothing is downloaded or run. The rate is that of the last finished request in the job table.
    """
    from serve_app.cli.models import models as listed

    with setup_errors():
        found = listed(load(config, data_dir).settings)
    if as_json:
        print(json.dumps([asdict(model) for model in found], indent=2))
        return
    for model in found:
        rate = model.frames_per_second
        print(
            f"{model.model}\n"
            f"  checkpoint   {model.checkpoint} ({model.backbone or 'not at hand'})\n"
            f"  official     {model.official}, trained at {model.trained}\n"
            f"  licence      {model.licence}\n"
            f"  loaded from  {model.loaded_from or model.problem}\n"
            f"  last ran     {'not measured here' if rate is None else f'{rate:.1f} frames/s'}"
        )


@checkpoints_app.command(epilog=examples("pull --config config/gpu.yaml"))
def pull(config: Annotated[Path, typer.Option(help="Profile whose checkpoints to fetch.")]) -> None:
    """Download a profile's checkpoints and lock their commits and digests. Exit status 1 if one is unavailable."""
    from serve_app.birefnet.hub import LockFile
    from serve_app.birefnet.hub import pull as fetch
    from serve_app.birefnet.variants import VARIANTS

    with setup_errors("cannot start: "):
        settings = load(config).settings
    wanted = {}
    for variant, facts in VARIANTS.items():
        own = settings.segmenter_for(variant)
        source = own.checkpoint or facts.repository
        if source != EMBEDDED and not Path(source).expanduser().is_dir():
            wanted[source, own.revision] = own.lock
    if not wanted:
        errors.print("this profile needs no checkpoints from the hub")
    for (repository, revision), path in sorted(wanted.items()):
        assert path is not None  # `segmenter_for` always sets one
        try:
            entry = fetch(repository, revision, LockFile(path))
        except CheckpointError as error:
            errors.print(str(error), style="red")
            raise typer.Exit(1) from error
        print(f"{repository} {entry.commit} locked in {path}", flush=True)
