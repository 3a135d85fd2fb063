"""Command line: `birefnet-serve up`, `migrate`, `certs`, `demo`, `remove`, `pull`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app import __version__
from serve_app.cli.client import RequestFailed
from serve_app.cli.keys import keys_app
from serve_app.errors import SetupError
from serve_app.fal import VENDOR_NAMES, OutputType, Quality, Variant, WriteMode
from serve_app.local.profile import Profile, StartError, free_port, is_free
from serve_app.local.service import running
from serve_app.settings import EMBEDDED

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
app.add_typer(keys_app, name="keys")
errors = Console(stderr=True)

Config = Annotated[Path, typer.Option(help="Profile: a Serve config such as config/local.yaml.")]
DataDir = Annotated[Path | None, typer.Option(help="Job table and artifacts (default: the profile's).")]


class Kind(StrEnum):
    """Output types as short words."""

    mp4 = "mp4"
    webm = "webm"
    mov = "mov"
    gif = "gif"

    @property
    def output_type(self) -> OutputType:
        return OutputType[self.name.upper()]


@contextmanager
def start_errors() -> Iterator[None]:
    """What keeps a service from starting is told in one line, exit status 2."""
    try:
        yield
    except SetupError as error:
        errors.print(f"cannot start: {error}", soft_wrap=True)
        raise typer.Exit(2) from error


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
    tls: Annotated[bool, typer.Option("--tls", help="Serve https, with what `certs` made.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Everything on one port, for the vendor's host names too.")
    ] = False,
) -> None:
    """Start the service with a Ray of its own; stop all of it on SIGTERM or Ctrl-C."""
    stop = threading.Event()

    def ask_to_stop(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt  # also leaves a start that is under way

    def wanted_profile() -> Profile:
        if names and files_port is not None:
            raise StartError("with --names downloads are on the HTTP port: leave out --files-port")
        profile = load_profile(config, port, files_port, data_dir)
        profile = profile.with_tls() if tls else profile
        return profile.with_names() if names else profile

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        with start_errors(), running(wanted_profile()) as profile:
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


@app.command()
def migrate(config: Config = Path("config/local.yaml"), data_dir: DataDir = None) -> None:
    """Create the job table of a profile or bring it to this version; before an upgrade, while the old one runs."""
    from serve_app.database.migrate import migrate as run

    with start_errors():
        settings = Profile.load(config, None, **({"data_dir": data_dir} if data_dir else {})).settings
        print(f"the job table has version {run(settings.database_url)}")


@app.command()
def certs(
    out: Annotated[
        Path | None, typer.Option(help="Where they go (default: tls/ of the data directory).")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A further host name or address; may be repeated.")
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="For the vendor's host names too, as `up --names` needs it.")
    ] = False,
    config: Config = Path("config/local.yaml"),
    data_dir: DataDir = None,
) -> None:
    """Make a private authority and a certificate for https on this machine; again: renew the certificate alone."""
    from serve_app.local.certs import CertFiles, make_certificates

    try:
        default = Profile.load(config, None, **({"data_dir": data_dir} if data_dir else {})).tls_dir
        files = CertFiles((out or default).absolute())
        held = make_certificates(files, [*(name or ()), *(VENDOR_NAMES if names else ())])
    except SetupError as error:
        errors.print(str(error), soft_wrap=True)
        raise typer.Exit(2) from error
    errors.print(
        f"{files.certificate} is for {', '.join(held)}; what clients need to trust it:", soft_wrap=True
    )
    print(f"export SSL_CERT_FILE={files.ca}")
    print(f"export NODE_EXTRA_CA_CERTS={files.ca}")
    if files.directory != default:
        errors.print("what the service needs to find it:")
        print(f"export BIREFNET_TLS__CERTIFICATE={files.certificate}")
        print(f"export BIREFNET_TLS__KEY={files.key}")


@app.command()
def demo(
    clip: Annotated[Path, typer.Option(help="The video to cut out.")] = Path(
        "tests/data/clips/bigbuckbunny.mp4"
    ),
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("demo-output"),
    config: Config = Path("config/local.yaml"),
) -> None:
    """Cut a clip out to a transparent WebM and an MP4, and draw a contact sheet to look at."""
    from serve_app.cli.demo import run_demo

    if not clip.is_file():
        errors.print(f"{clip} does not exist: run this in the repository, or name a video with --clip")
        raise typer.Exit(2)
    try:
        with start_errors():
            run_demo(clip, out, config)
    except RequestFailed as error:
        errors.print(f"failed: {error}")
        raise typer.Exit(1) from error


@app.command()
def remove(
    sources: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Video files or http(s) URLs.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A file (one input) or a directory.")
    ] = None,
    model: Annotated[Variant, typer.Option(help="Which network.")] = Variant.LIGHT,
    kind: Annotated[Kind, typer.Option("--type", help="What to write.")] = Kind.webm,
    quality: Annotated[Quality, typer.Option(help="Of the encoding.")] = Quality.HIGH,
    write_mode: Annotated[WriteMode, typer.Option(help="Encoder effort.")] = WriteMode.BALANCED,
    mask: Annotated[bool, typer.Option("--mask", help="Write the mask as well.")] = False,
    resolution: Annotated[str, typer.Option(help="Operating resolution.")] = "1024x1024",
    no_refine: Annotated[bool, typer.Option("--no-refine", help="Leave the subject's edge colours.")] = False,
    server: Annotated[
        str | None, typer.Option(help="URL of a running service; without it one is started.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="FAL_KEY", help="API key for --server.", show_default=False)
    ] = None,
    config: Config = Path("config/local.yaml"),
) -> None:
    """Remove the background of videos. Exit status: 0 all done, 1 some failed, 2 could not start."""
    from serve_app.cli.client import Server, trusted
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
    with start_errors():
        where = Server(server.rstrip("/"), trusted(), key) if server else None
        failed = run(sources, out, fields, where, config)
    raise typer.Exit(1 if failed else 0)


@app.command()
def pull(config: Annotated[Path, typer.Option(help="Profile whose checkpoints to fetch.")]) -> None:
    """Download a profile's checkpoints and lock their commits and digests. Exit status 1 when one cannot be had."""
    from serve_app.birefnet.hub import LockFile
    from serve_app.birefnet.hub import pull as fetch
    from serve_app.birefnet.variants import VARIANTS
    from serve_app.errors import CheckpointError

    with start_errors():
        settings = Profile.load(config).settings
    wanted = {}
    for variant, facts in VARIANTS.items():
        own = settings.segmenter_for(variant)
        source = own.checkpoint or facts.repository
        if source != EMBEDDED and not Path(source).expanduser().is_dir():
            wanted[source, own.revision] = own.lock
    if not wanted:
        errors.print("this profile needs nothing from the hub")
    for (repository, revision), path in sorted(wanted.items()):
        assert path is not None  # `segmenter_for` names one
        try:
            entry = fetch(repository, revision, LockFile(path))
        except CheckpointError as error:
            errors.print(str(error), style="red")
            raise typer.Exit(1) from error
        print(f"{repository} {entry.commit} locked in {path}", flush=True)


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
