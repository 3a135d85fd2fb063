"""Commands about checkpoints: `models` and `pull`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.common import LOCAL_PROFILE, AsJson, Config, DataDir, errors, examples, load, setup_errors
from serve_app.errors import CheckpointError
from serve_app.settings import EMBEDDED, Settings

checkpoints_app = typer.Typer()

CLIPS = Path("tests/data/clips")


@checkpoints_app.command(
    epilog=examples("models", "models --config config/gpu.yaml --json", "models --check --out checked")
)
def models(
    config: Config = LOCAL_PROFILE,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run each checkpoint at hand on the demo clip, in both tile orders."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the sheets of --check (default: in the data directory).")
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Operating size of --check, a multiple of 32.")] = 1024,
) -> None:
    """List the models of a profile: checkpoint, network, size, licence, where it is loaded from, how fast it last ran.

    Nothing is downloaded. The rate is that of the last finished request in the job table. --check compares mattes with
    stored ones, and records for checkpoints of the published shape which tile order agrees better; loading honours it.
    """
    from serve_app.cli.models import models as listed

    with setup_errors():
        settings = load(config, data_dir).settings
        if check:
            _check(settings, out or settings.data_dir / "models", size, as_json)
            return
        found = listed(settings)
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


def _check(settings: Settings, out: Path, size: int, as_json: bool) -> None:
    from serve_app.cli.model_check import check

    clip, mattes = CLIPS / "bigbuckbunny.mp4", CLIPS / "bigbuckbunny-mattes.png"
    if not mattes.is_file():
        errors.print(f"{mattes} does not exist: run this from the repository root")
        raise typer.Exit(2)
    for done in check(settings, clip, mattes, out, size):
        if as_json:
            print(json.dumps(asdict(done), default=str), flush=True)
            continue
        figures = ", ".join(f"{order} {share:.3f}" for order, share in done.agreement.items())
        verdict = f"{done.better} agrees better" if done.better else "no difference that decides"
        recorded = ", recorded" if done.recorded else ""
        print(f"{done.checkpoint}: {figures}: {verdict}{recorded}\n  mattes in {done.sheet}", flush=True)


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
        source = facts.source(own.checkpoint)
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
