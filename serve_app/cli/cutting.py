"""Commands that remove backgrounds: `remove` and `demo`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.client import RequestFailed, Server, trust_store
from serve_app.cli.common import LOCAL_PROFILE, Config, Key, errors, examples, setup_errors
from serve_app.fal import OutputType, Quality, Variant, WriteMode

cutting_app = typer.Typer()


class Kind(StrEnum):
    """Output types by file extension."""

    mp4 = "mp4"
    webm = "webm"
    mov = "mov"
    gif = "gif"

    @property
    def output_type(self) -> OutputType:
        return OutputType[self.name.upper()]


@cutting_app.command(
    epilog=examples(
        "remove clip.mp4",
        "remove clip.mp4 -o subject.mov --type mov --mask",
        "remove videos/ https://example.org/street.mp4 -o cutouts/ --jobs 2",
        "remove - -o - --type gif < clip.mp4 > subject.gif",
        "remove clip.mp4 --server http://127.0.0.1:8000 --json",
    )
)
def remove(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Videos: files, directories, patterns, URLs, - for standard input."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Output file (one input), directory, or - for standard output."),
    ] = None,
    model: Annotated[Variant, typer.Option(help="Network variant.")] = Variant.LIGHT,
    kind: Annotated[Kind, typer.Option("--type", help="Output type.")] = Kind.webm,
    quality: Annotated[Quality, typer.Option(help="Encoding quality.")] = Quality.HIGH,
    write_mode: Annotated[WriteMode, typer.Option(help="Encoder effort.")] = WriteMode.BALANCED,
    mask: Annotated[bool, typer.Option("--mask", help="Also write the mask.")] = False,
    resolution: Annotated[str, typer.Option(help="Operating resolution.")] = "1024x1024",
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Keep the source colours at the subject's edges.")
    ] = False,
    server: Annotated[str | None, typer.Option(help="URL of a running service (default: start one).")] = None,
    key: Key = None,
    jobs: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 1,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace outputs that exist, instead of skipping their inputs."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each input.")] = False,
    config: Config = LOCAL_PROFILE,
) -> None:
    """Remove the background of videos.

    Paths of outputs go to standard output, progress to standard error. Exit status: 0 all succeeded, 1 some failed,
    2 wrong usage or the service could not start, 130 interrupted; Ctrl-C cancels the requests on the server.
    """
    from serve_app.cli.remove import Options, UsageError
    from serve_app.cli.remove import remove as run

    fields = {
        "model": model.value,
        "video_output_type": kind.output_type.value,
        "video_quality": quality.value,
        "video_write_mode": write_mode.value,
        "output_mask": mask,
        "operating_resolution": resolution,
        "refine_foreground": not no_refine,
    }
    options = Options(out, fields, jobs, overwrite, as_json)
    try:
        with setup_errors("cannot start: "):
            where = Server(server.rstrip("/"), trust_store(), key) if server else None
            failed = run(sources, options, where, config)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
    except KeyboardInterrupt as error:
        errors.print("interrupted")
        raise typer.Exit(130) from error
    raise typer.Exit(1 if failed else 0)


@cutting_app.command(epilog=examples("demo", "demo --clip clip.mp4 --out results"))
def demo(
    clip: Annotated[Path, typer.Option(help="Input video.")] = Path("tests/data/clips/bigbuckbunny.mp4"),
    out: Annotated[Path, typer.Option(help="Output directory.")] = Path("demo-output"),
    config: Config = LOCAL_PROFILE,
) -> None:
    """Remove the background of a clip, as a transparent WebM and an MP4, and draw a contact sheet."""
    from serve_app.cli.demo import run_demo

    if not clip.is_file():
        errors.print(f"{clip} does not exist: run this from the repository root or pass a video with --clip")
        raise typer.Exit(2)
    try:
        with setup_errors("cannot start: "):
            run_demo(clip, out, config)
    except RequestFailed as error:
        errors.print(f"failed: {error}")
        raise typer.Exit(1) from error
