"""The command line, `birefnet-serve`."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app import __version__
from serve_app.cli.client import RequestFailed
from serve_app.cli.keys import keys_app
from serve_app.cli.requests import requests_app
from serve_app.errors import SetupError
from serve_app.fal import VENDOR_NAMES, OutputType, Quality, Variant, WriteMode
from serve_app.local.profile import Profile, StartError, free_port, is_free
from serve_app.local.service import running
from serve_app.settings import EMBEDDED

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
app.add_typer(keys_app, name="keys")
app.add_typer(requests_app)
errors = Console(stderr=True)

Config = Annotated[Path, typer.Option(help="Profile: a Serve config such as config/local.yaml.")]
DataDir = Annotated[Path | None, typer.Option(help="Job table and artifacts (default: the profile's).")]


class Kind(StrEnum):
    """Output types by file extension."""

    mp4 = "mp4"
    webm = "webm"
    mov = "mov"
    gif = "gif"

    @property
    def output_type(self) -> OutputType:
        return OutputType[self.name.upper()]


@contextmanager
def start_errors() -> Iterator[None]:
    """Prints a `SetupError` in one line and exits with status 2."""
    try:
        yield
    except SetupError as error:
        errors.print(f"cannot start: {error}", soft_wrap=True)
        raise typer.Exit(2) from error


@app.callback()
def main() -> None:
    """Self-hosted video background removal with BiRefNet."""


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def up(
    config: Config = Path("config/local.yaml"),
    port: Annotated[int | None, typer.Option(help="HTTP port (default: the profile's).")] = None,
    files_port: Annotated[int | None, typer.Option(help="Port for file transfers.")] = None,
    data_dir: DataDir = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve https with the certificate that `certs` made.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Serve everything on one port, under the vendor's host names too.")
    ] = False,
) -> None:
    """Start the service on a private Ray instance; SIGTERM or Ctrl-C stops everything."""
    stop = threading.Event()

    def request_stop(*_: object) -> None:
        stop.set()
        raise KeyboardInterrupt  # also interrupts a start in progress

    def selected_profile() -> Profile:
        if names and files_port is not None:
            raise StartError("with --names, downloads use the HTTP port: leave out --files-port")
        profile = load_profile(config, port, files_port, data_dir)
        profile = profile.with_tls() if tls else profile
        return profile.with_names() if names else profile

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    try:
        with start_errors(), running(selected_profile()) as profile:
            # Ray installs its own handlers when it starts.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            notes = [f"note: {line}" for line in profile.settings.relaxations]
            where = f"playground: {profile.url}/ (downloads on port {profile.settings.files.port})"
            data = f"data in {profile.settings.data_dir}, logs in {profile.logs_dir}"
            errors.print(*notes, where, data, sep="\n", soft_wrap=True)
            print(f"ready {profile.url}", flush=True)
            stop.wait()
            errors.print("stopping")
    except KeyboardInterrupt:
        errors.print("stopped before it was ready")


@app.command()
def migrate(config: Config = Path("config/local.yaml"), data_dir: DataDir = None) -> None:
    """Create a profile's job table or upgrade it to this version. Run it before an upgrade, with the old one up."""
    from serve_app.database.migrate import migrate as run

    with start_errors():
        settings = Profile.load(config, None, **({"data_dir": data_dir} if data_dir else {})).settings
        print(f"the job table has version {run(settings.database_url)}")


@app.command()
def certs(
    out: Annotated[
        Path | None, typer.Option(help="Output directory (default: tls/ in the data directory).")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Additional host name or IP address; repeatable.")
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Include the vendor's host names, as `up --names` needs.")
    ] = False,
    config: Config = Path("config/local.yaml"),
    data_dir: DataDir = None,
) -> None:
    """Create a private authority and a certificate for https on this machine. Run again to renew the certificate."""
    from serve_app.local.certs import CertFiles, make_certificates

    try:
        default = Profile.load(config, None, **({"data_dir": data_dir} if data_dir else {})).tls_dir
        files = CertFiles((out or default).absolute())
        covered = make_certificates(files, [*(name or ()), *(VENDOR_NAMES if names else ())])
    except SetupError as error:
        errors.print(str(error), soft_wrap=True)
        raise typer.Exit(2) from error
    errors.print(
        f"{files.certificate} covers {', '.join(covered)}; set these for clients to trust it:", soft_wrap=True
    )
    print(f"export SSL_CERT_FILE={files.ca}")
    print(f"export NODE_EXTRA_CA_CERTS={files.ca}")
    if files.directory != default:
        errors.print("set these for the service to find it:")
        print(f"export BIREFNET_TLS__CERTIFICATE={files.certificate}")
        print(f"export BIREFNET_TLS__KEY={files.key}")


@app.command()
def demo(
    clip: Annotated[Path, typer.Option(help="Input video.")] = Path("tests/data/clips/bigbuckbunny.mp4"),
    out: Annotated[Path, typer.Option(help="Output directory.")] = Path("demo-output"),
    config: Config = Path("config/local.yaml"),
) -> None:
    """Remove the background of a clip, as a transparent WebM and an MP4, and draw a contact sheet."""
    from serve_app.cli.demo import run_demo

    if not clip.is_file():
        errors.print(f"{clip} does not exist: run this from the repository root or pass a video with --clip")
        raise typer.Exit(2)
    try:
        with start_errors():
            run_demo(clip, out, config)
    except RequestFailed as error:
        errors.print(f"failed: {error}")
        raise typer.Exit(1) from error


@app.command()
def remove(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Videos: files, directories, patterns, URLs."),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Output file (one input) or directory.")
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
    key: Annotated[
        str | None, typer.Option(envvar="FAL_KEY", help="API key for --server.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Requests under way at the same time.")] = 1,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace outputs that exist, instead of skipping their inputs."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each input.")] = False,
    config: Config = Path("config/local.yaml"),
) -> None:
    """Remove the background of videos.

    Exit status: 0 all succeeded, 1 some failed, 2 the service could not start, 130 interrupted; Ctrl-C cancels the
    requests on the server.
    """
    from serve_app.cli.client import Server, trust_store
    from serve_app.cli.remove import Options
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
        with start_errors():
            where = Server(server.rstrip("/"), trust_store(), key) if server else None
            failed = run(sources, options, where, config)
    except KeyboardInterrupt as error:
        errors.print("interrupted: the requests under way are cancelled")
        raise typer.Exit(130) from error
    raise typer.Exit(1 if failed else 0)


@app.command()
def doctor(
    config: Config = Path("config/local.yaml"),
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check whether this machine can run a profile, and say what to do where it cannot. Exit status 1 in that case."""
    from serve_app.cli.doctor import examine

    with start_errors():
        findings = examine(Profile.load(config, None, **({"data_dir": data_dir} if data_dir else {})))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "PROBLEM"
            print(f"{mark:8} {finding.check:14} {finding.text}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@app.command()
def pull(config: Annotated[Path, typer.Option(help="Profile whose checkpoints to fetch.")]) -> None:
    """Download a profile's checkpoints and lock their commits and digests. Exit status 1 if one is unavailable."""
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
        errors.print("this profile needs no checkpoints from the hub")
    for (repository, revision), path in sorted(wanted.items()):
        assert path is not None  # `segmenter_for` always sets one
        try:
            entry = fetch(repository, revision, LockFile(path))
        except CheckpointError as error:
            errors.print(str(error), style="red")
            raise typer.Exit(1) from error
        print(f"{repository} {entry.commit} locked in {path}", flush=True)


def load_profile(config: Path, port: int | None, files_port: int | None, data_dir: Path | None) -> Profile:
    """Loads a profile with the command line's overrides. Downloads use a free port if the profile's is taken."""
    overrides: dict[str, object] = {"data_dir": data_dir} if data_dir else {}
    profile = Profile.load(config, port, **overrides)
    if files_port is None and not is_free(profile.settings.files.port):
        files_port = free_port()
    if files_port is not None:
        profile = Profile.load(config, port, files={"port": files_port}, **overrides)
    return profile


if __name__ == "__main__":
    app()
