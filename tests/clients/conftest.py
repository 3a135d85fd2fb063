"""A service over https, and the official clients as separate programs that their environment points at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.service import JOB_S, MediaServer, Service, running_service
from tests.video.clips import X264, Clip, make

HERE = Path(__file__).parent
SHORT = Clip("short.mp4", frames=12, width=160, height=96, options=X264)
LONG = Clip("long.mp4", frames=400, width=160, height=96, options=X264)  # longer than any test waits

Facts = dict[str, Any]
Program = Callable[[str], str]
Driver = Callable[[str], Facts]  # what a driver program found out, told as JSON


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("https") / "data", tls=True) as running:
        yield running


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of the short and of the long clip."""
    directory = tmp_path_factory.mktemp("sources")
    for clip in (SHORT, LONG):
        make(directory / clip.name, clip)
    server = MediaServer(directory)
    yield server.url(SHORT.name), server.url(LONG.name)
    server.stop()


@pytest.fixture(scope="package")
def files_url(service: Service) -> str:
    """Where uploads go."""
    reply = service.client.post("/rest/storage/auth/token")
    return str(reply.raise_for_status().json()["base_url"])


@pytest.fixture
def python(service: Service, files_url: str, clips: tuple[str, str]) -> Program:
    """Runs a Python program that is pointed at the service, and returns its standard output."""
    authority = service.url.removeprefix("https://")
    environment = {
        "FAL_RUN_HOST": f"{authority}/run",
        "FAL_QUEUE_RUN_HOST": f"{authority}/queue",
        "REST_URL": f"{service.url}/rest",
        "CDN_URL": files_url,
        "SSL_CERT_FILE": str(service.ca),
    }
    return lambda name: call([sys.executable, *name.split(), *clips], environment)


@pytest.fixture(scope="package")
def node() -> str:
    """The interpreter; skips the test unless the client is installed too."""
    found = shutil.which("node")
    if found is None or not (HERE / "node_modules" / "@fal-ai" / "client").is_dir():
        pytest.skip("the JavaScript client is not installed: make node")
    return found


@pytest.fixture
def javascript(mode: str, node: str, service: Service, clips: tuple[str, str]) -> Program:
    """The same for JavaScript; the test module's fixture `mode` says how the client is pointed at the service."""
    environment = {
        "FAL_RUN_URL": f"{service.url}/run",
        "FAL_QUEUE_URL": f"{service.url}/queue",
        "FAL_REST_URL": f"{service.url}/rest",
        "FAL_PROXY_URL": f"{service.url}/api/fal/proxy",
        "FAL_MODE": mode,
        "NODE_EXTRA_CA_CERTS": str(service.ca),
    }
    return lambda name: call([node, "--import", "./hosts.mjs", *name.split(), *clips], environment)


@pytest.fixture(scope="package")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that answers for the vendor's host names."""
    with running_service(tmp_path_factory.mktemp("names") / "data", tls=True, names=True) as running:
        yield running


@pytest.fixture
def named_python(named: Service, clips: tuple[str, str]) -> Program:
    """Runs a Python program without any setting; name resolution alone points it at the service."""
    environment = {"NAMES_PORT": named.url.rpartition(":")[2], "SSL_CERT_FILE": str(named.ca)}
    return lambda name: call([sys.executable, "names.py", *name.split(), *clips], environment)


@pytest.fixture
def named_javascript(node: str, named: Service, clips: tuple[str, str]) -> Program:
    environment = {"NAMES_PORT": named.url.rpartition(":")[2], "NODE_EXTRA_CA_CERTS": str(named.ca)}
    return lambda name: call([node, "--import", "./names.mjs", *name.split(), *clips], environment)


def call(command: list[str], environment: dict[str, str]) -> str:
    """Runs a program without this process's environment, and returns its standard output."""
    environment = {"PATH": os.environ["PATH"], "FAL_KEY": "any:key", **environment}
    done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, timeout=JOB_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
