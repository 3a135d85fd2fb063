"""A whole service on this machine: a Ray of its own on free internal ports, the application of a profile, no
leftovers. Used by `birefnet-serve up`, the demo and the tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import ValidationError

from serve_app.errors import SetupError
from serve_app.settings import Settings, TlsSettings
from serve_app.vendor import uncovered

MIB = 1 << 20
OBJECT_STORE = 1024 * MIB  # frames and cutouts in flight
LEAST_OBJECT_STORE = 256 * MIB
READY_S = 180.0

# Read by every Ray process when it starts, so they must be set before Ray is. Metrics pushed every second let a
# stage that scaled to zero wake in about two seconds instead of sixteen; the proxy is missed sooner.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}


class StartError(SetupError):
    """This machine or the profile keeps the service from starting; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A Serve config file as far as a single machine needs it. `host` and `port` are those of Serve's own proxy."""

    host: str
    port: int
    name: str
    settings: Settings

    @classmethod
    def load(cls, path: Path, port: int | None = None, **overrides: Any) -> Profile:
        """Read a file under `config/`; `overrides` are fields of `Settings` (nested ones as dicts)."""
        if not path.is_file():
            raise StartError(f"{path} does not exist: name a profile such as config/local.yaml")
        written = yaml.safe_load(path.read_text()) or {}
        application = next(iter(written.get("applications") or [{}]))
        if application.get("import_path") != "serve_app.app:build":
            raise StartError(
                f"{path} is not a profile of this service: its import_path must be serve_app.app:build"
            )
        try:
            settings = Settings(**(application.get("args") or {}))
        except ValidationError as error:
            raise StartError(f"{path} is not a valid profile: {error}") from error
        for key, value in overrides.items():  # the command line goes before file and environment
            if isinstance(value, dict):
                value = getattr(settings, key).model_copy(update=value)
            settings = settings.model_copy(update={key: value})
        http = written.get("http_options") or {}
        return cls(
            host=http.get("host", "127.0.0.1"),
            port=port or http.get("port", 8000),
            name=application.get("name", "default"),
            settings=settings,
        )

    @property
    def logs_dir(self) -> Path:
        return self.settings.data_dir / "logs"

    @property
    def tls_dir(self) -> Path:
        """Where `birefnet-serve certs` puts this profile's certificates."""
        return self.settings.data_dir.absolute() / "tls"

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        scheme = "https" if self.settings.tls else "http"
        door = self.settings.files if self.settings.front else self
        host = "127.0.0.1" if door.host in ("0.0.0.0", "::") else door.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{door.port}"

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """For httpx clients on this machine: the service's own certificate is the one to trust, whoever signed it.

        Its names need not be those of `url`: this very file is what the service was given.
        """
        if self.settings.tls is None:
            return True
        context = ssl.create_default_context(cafile=self.settings.tls.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context

    def with_tls(self) -> Profile:
        """The profile served over https: with the files that it names, or else with those in `tls_dir`."""
        if self.settings.tls is not None:
            return self
        tls = TlsSettings(certificate=self.tls_dir / "cert.pem", key=self.tls_dir / "key.pem")
        return replace(self, settings=self.settings.model_copy(update={"tls": tls}))

    def with_names(self) -> Profile:
        """The profile on one port, good for the vendor's host names too: the file server becomes the front door, and
        Serve's proxy takes a port behind it that nobody else needs to know.
        """
        tls = self.settings.tls
        if tls is None:
            raise StartError("clients ask for the vendor's names by https alone: add --tls to --names")
        from serve_app.certs import check

        check(tls.certificate, tls.key)
        if missing := uncovered(tls.certificate):
            raise StartError(
                f"{tls.certificate} is not for {', '.join(missing)}: make one with `birefnet-serve certs --names`"
            )
        port = free_port()
        files = self.settings.files.model_copy(update={"host": self.host, "port": self.port})
        front = {"front": f"http://127.0.0.1:{port}", "files": files}
        return replace(self, host="127.0.0.1", port=port, settings=self.settings.model_copy(update=front))


@contextlib.contextmanager
def running(profile: Profile) -> Iterator[Profile]:
    """Start everything, yield when requests are answered, and stop everything that was started."""
    for port in (profile.port, profile.settings.files.port):
        if not is_free(port):
            raise StartError(f"port {port} is taken: choose another one (--port, --files-port)")
    http_options = {"host": profile.host, "port": profile.port, **_tls_options(profile.settings)}
    store = _object_store_bytes()
    for key, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # A private cluster on loopback; applications have keys of their own.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    profile.settings.data_dir.mkdir(parents=True, exist_ok=True)
    import ray  # after the environment is set
    from ray import serve

    from serve_app.app import build
    from serve_app.jobs.schema import migrate

    migrate(profile.settings.database_url)  # replicas only look whether it is this version's

    temp = tempfile.mkdtemp(prefix="birefnet-")  # short: sockets in it must stay under 107 characters
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=store,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=temp,
        )
        # Kept where they outlive Ray's temporary directory: an error reply says that the log has more.
        logging_config = {"logs_dir": str(profile.logs_dir), "enable_access_log": False}
        serve.start(
            proxy_location="HeadOnly",
            http_options=http_options,
            logging_config=logging_config,
        )
        try:
            serve.run(
                build(profile.settings), name=profile.name, route_prefix="/", logging_config=logging_config
            )
        except RuntimeError as error:
            raise StartError(
                f"the application did not start: {error} (logs in {profile.logs_dir})"
            ) from error
        _await_ready(profile)
        yield profile
    finally:
        with contextlib.suppress(Exception):
            serve.shutdown()
        ray.shutdown()
        shutil.rmtree(temp, ignore_errors=True)


@contextlib.contextmanager
def temporary(config: Path) -> Iterator[Profile]:
    """`running` for one errand: on free ports of loopback, with data that is gone afterwards.

    Whatever the profile or the environment shares with other services is left out: this one must not take their jobs.
    """
    with tempfile.TemporaryDirectory(prefix="birefnet-data-") as data:
        private: dict[str, Any] = {
            "data_dir": Path(data),
            **dict.fromkeys(("database", "artifacts", "public_url", "front")),
            "files": {"host": "127.0.0.1", "port": free_port(), "public_url": None},
            "auth": {"required": False},
            "webhooks": {"key_file": None},
        }
        with running(Profile.load(config, free_port(), **private)) as profile:
            yield profile


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError as error:
            raise StartError(
                f"port {port} is not for this user: start as root, or allow it "
                f"(sysctl net.ipv4.ip_unprivileged_port_start={port})"
            ) from error
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _object_store_bytes() -> int:
    """Shared memory for Ray's object store. Raises StartError where there is too little."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return OBJECT_STORE
    size = min(OBJECT_STORE, int(shutil.disk_usage(shared).free * 0.8))
    if size < LEAST_OBJECT_STORE:
        raise StartError(
            f"/dev/shm has {shutil.disk_usage(shared).free // MIB} MiB free, frames in flight need "
            f"{LEAST_OBJECT_STORE * 5 // 4 // MIB}: in a container raise it (docker run --shm-size=1g)"
        )
    return size


def _tls_options(settings: Settings) -> dict[str, str]:
    """Serve's options for https. Raises SetupError when the files cannot be served with."""
    tls = settings.tls
    if tls is None:
        return {}
    from serve_app.certs import check

    check(tls.certificate, tls.key)
    if settings.front:
        return {}  # https ends at the front door
    return {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)}


def _await_ready(profile: Profile) -> None:
    """Return when the health route answers 200 through the proxy."""
    deadline = time.monotonic() + READY_S
    with httpx.Client(verify=profile.verify, timeout=5, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{profile.url}/health").status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise StartError(f"{profile.url} did not answer within {READY_S:g} s")
            time.sleep(0.1)
