"""A whole service on this machine: a Ray of its own on free internal ports, the application of a profile, no
leftovers. Used by `birefnet-serve up`, the demo and the tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from serve_app.local.certs import check
from serve_app.local.profile import Profile, StartError, free_port, is_free
from serve_app.settings import Settings

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
    from serve_app.database.migrate import migrate

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
    Compiled networks are kept where the profile keeps them, or each errand would compile its own.
    """
    cache = Profile.load(config).settings.data_dir / "engines"
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
    check(tls.certificate, tls.key)
    if settings.files.upstream:
        return {}  # https ends at the reverse proxy
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
