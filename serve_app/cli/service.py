"""Commands that run a service or prepare it: `up`, `migrate`, `certs`, `doctor`."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.common import LOCAL_PROFILE, AsJson, Config, DataDir, errors, examples, load, setup_errors
from serve_app.fal import VENDOR_NAMES
from serve_app.local.profile import Profile, StartError, free_port, is_free
from serve_app.local.service import running

service_app = typer.Typer()


@service_app.command(
    epilog=examples(
        "up",
        "up --port 9000 --data-dir /srv/birefnet",
        "up --config config/gpu.yaml --tls --names",
    )
)
def up(
    config: Config = LOCAL_PROFILE,
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
        profile = _with_ports(config, port, files_port, data_dir)
        profile = profile.with_tls() if tls else profile
        return profile.with_names() if names else profile

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    try:
        with setup_errors("cannot start: "), running(selected_profile()) as profile:
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


def _with_ports(config: Path, port: int | None, files_port: int | None, data_dir: Path | None) -> Profile:
    """The profile on these ports. Downloads use a free one if the profile's is taken."""
    profile = load(config, data_dir, port)
    if files_port is None and not is_free(profile.settings.files.port):
        files_port = free_port()
    if files_port is not None:
        profile = load(config, data_dir, port, files={"port": files_port})
    return profile


@service_app.command(epilog=examples("migrate", "migrate --config config/gpu.yaml"))
def migrate(config: Config = LOCAL_PROFILE, data_dir: DataDir = None) -> None:
    """Create a profile's job table or upgrade it to this version. Run it before an upgrade, with the old one up."""
    from serve_app.database.migrate import migrate as run

    with setup_errors("cannot start: "):
        print(f"the job table has version {run(load(config, data_dir).settings.database_url)}")


@service_app.command(
    epilog=examples("certs", "certs --name birefnet.lan --name 192.168.1.20", "certs --names --out tls")
)
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
    config: Config = LOCAL_PROFILE,
    data_dir: DataDir = None,
) -> None:
    """Create a private authority and a certificate for https on this machine. Run again to renew the certificate."""
    from serve_app.local.certs import CertFiles, make_certificates

    with setup_errors():
        default = load(config, data_dir).tls_dir
        files = CertFiles((out or default).absolute())
        covered = make_certificates(files, [*(name or ()), *(VENDOR_NAMES if names else ())])
    errors.print(
        f"{files.certificate} covers {', '.join(covered)}; set these for clients to trust it:", soft_wrap=True
    )
    print(f"export SSL_CERT_FILE={files.ca}")
    print(f"export NODE_EXTRA_CA_CERTS={files.ca}")
    if files.directory != default:
        errors.print("set these for the service to find it:")
        print(f"export BIREFNET_TLS__CERTIFICATE={files.certificate}")
        print(f"export BIREFNET_TLS__KEY={files.key}")


@service_app.command(epilog=examples("doctor", "doctor --config config/gpu.yaml --json"))
def doctor(config: Config = LOCAL_PROFILE, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check whether this machine can run a profile, and say what to do where it cannot. Exit status 1 in that case."""
    from serve_app.cli.doctor import examine

    with setup_errors("cannot start: "):
        findings = examine(load(config, data_dir))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "PROBLEM"
            print(f"{mark:8} {finding.check:14} {finding.text}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)
