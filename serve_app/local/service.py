"""A complete service on this machine: a private Ray instance on free internal ports and a profile's application.

Used by `birefnet-serve up`, `remove` and `demo`, and by the tests.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from serve_app.local.certs import check
from serve_app.local.profile import Profile, StartError, free_port, is_free
from serve_app.settings import EXPOSED, Settings

MIB = 1 << 20
OBJECT_STORE = 1024 * MIB  # frames and cutouts in flight
MIN_OBJECT_STORE = 256 * MIB
READY_S = 180.0

# Read by every Ray process at start, so they must be set before Ray starts. Metrics pushed every second let a stage
# that scaled to zero wake in about two seconds instead of sixteen; the proxy checks notice a dead proxy sooner.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}


@contextlib.contextmanager
def running(profile: Profile) -> Iterator[Profile]:
    """Starts the service, yields when it answers requests, and stops every process on exit.

    Raises `SetupError` if the machine, the profile or the job table keeps it from starting.
    """
    for port in (profile.port, profile.settings.files.port):
        if not is_free(port):
            raise StartError(f"port {port} is taken: choose another (--port, --files-port)")
    if profile.settings.exposes(profile.host):
        raise StartError(EXPOSED.format(profile.host))
    http_options = {"host": profile.host, "port": profile.port, **tls_options(profile.settings)}
    store = object_store_bytes()
    for key, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # Ray listens on every address and would run anybody's code: only this run's processes know the token.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    profile.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    import ray  # after the environment is set
    from ray import serve

    from serve_app.app import build
    from serve_app.database.migrate import migrate

    migrate(profile.settings.database_url)  # replicas only check the version

    # A short path: those of the sockets in it must stay under 107 characters.
    temp = tempfile.mkdtemp(prefix="birefnet-")
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=store,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=temp,
        )
        # Outside Ray's temporary directory, which is deleted: error replies refer to the log.
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
    """Like `running`, on free loopback ports and with a temporary data directory.

    Settings that share state with other services (database, artifacts) are reset: this one must not take their jobs.
    Compiled networks are kept where the profile keeps them, because compiling takes seconds to minutes.
    """
    cache = Profile.load(config).settings.engines_dir
    with tempfile.TemporaryDirectory(prefix="birefnet-data-") as data:
        private: dict[str, Any] = {
            "data_dir": Path(data),
            **dict.fromkeys(("database", "artifacts", "public_url")),
            "files": {"host": "127.0.0.1", "port": free_port(), "public_url": None, "upstream": None},
            "auth": {"required": False},
            "webhooks": {"key_file": None},
            "segmenter": {"cache": cache},
        }
        with running(Profile.load(config, free_port(), **private)) as profile:
            yield profile


def object_store_bytes() -> int:
    """Size of Ray's object store. Raises `StartError` if there is too little shared memory."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return OBJECT_STORE
    size = min(OBJECT_STORE, int(shutil.disk_usage(shared).free * 0.8))
    if size < MIN_OBJECT_STORE:
        raise StartError(
            f"/dev/shm has {shutil.disk_usage(shared).free // MIB} MiB free, but frames in flight need "
            f"{MIN_OBJECT_STORE * 5 // 4 // MIB}: in a container, raise it (docker run --shm-size=1g)"
        )
    return size


def tls_options(settings: Settings) -> dict[str, str]:
    """Serve's https options. Raises `SetupError` if the certificate or key cannot be used."""
    tls = settings.tls
    if tls is None:
        return {}
    check(tls.certificate, tls.key)
    if settings.files.upstream:
        return {}  # the reverse proxy terminates TLS
    return {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)}


def _await_ready(profile: Profile) -> None:
    """Waits until the health route answers 200 through the proxy. Raises `StartError` after `READY_S`."""
    deadline = time.monotonic() + READY_S
    with httpx.Client(verify=profile.verify, timeout=5, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get(f"{profile.url}/health").status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise StartError(f"{profile.url} did not answer within {READY_S:g} s")
            time.sleep(0.1)
