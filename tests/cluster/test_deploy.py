"""`ray start --head` and `serve deploy config/local.yaml`, then the endpoint's documented curl request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml

from serve_app.local.profile import free_port
from tests.cluster.service import ENDPOINT, JOB_S, ROOT, MediaServer, descendants
from tests.video.clips import X264, Clip, make

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the documented request uses curl"),
]

BIN = Path(sys.executable).parent
CLIP = Clip("deploy.mp4", frames=12, options=X264)


@pytest.fixture
def ray_head() -> Iterator[str]:
    """Starts a Ray head with its own ports and temporary directory; yields its dashboard's address."""
    temp = tempfile.mkdtemp(prefix="br-")
    dashboard = free_port()
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={free_port()}", f"--temp-dir={temp}"]
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    command += [f"--dashboard-agent-grpc-port={free_port()}", f"--metrics-export-port={free_port()}"]
    command += [
        f"--ray-client-server-port={free_port()}",
        f"--object-store-memory={512 << 20}",
        "--num-cpus=2",
    ]
    with Path(temp, "head.log").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
    address = f"http://127.0.0.1:{dashboard}"
    await_reply(f"{address}/api/version", head)
    yield address
    for pid in (head.pid, *descendants(head.pid)):  # a graceful stop takes half a minute and tests nothing
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    head.wait(timeout=60)
    shutil.rmtree(temp, ignore_errors=True)


def await_reply(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + JOB_S
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)


def test_serve_deploy_and_curl(
    ray_head: str, tmp_path: Path, media_server: MediaServer, clips_dir: Path
) -> None:
    make(clips_dir / CLIP.name, CLIP)
    port = free_port()
    profile = yaml.safe_load((ROOT / "config" / "local.yaml").read_text())
    profile["http_options"]["port"] = port
    profile["applications"][0]["args"] |= {"data_dir": str(tmp_path / "data")}
    profile["applications"][0]["args"]["files"]["port"] = free_port()
    config = tmp_path / "local.yaml"
    config.write_text(yaml.safe_dump(profile))
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    subprocess.run([BIN / "birefnet-serve", "migrate", "--config", config], check=True, cwd=ROOT)
    subprocess.run([BIN / "serve", "deploy", config, "-a", ray_head], check=True, env=environment, cwd=ROOT)

    deadline = time.monotonic() + JOB_S
    while True:
        state = httpx.get(f"{ray_head}/api/serve/applications/").json()["applications"].get("birefnet", {})
        if state.get("status") == "RUNNING":
            break
        assert state.get("status") != "DEPLOY_FAILED", state["message"]
        assert time.monotonic() < deadline, state
        time.sleep(0.2)

    reply = subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--request", "POST"),
            *("--url", f"http://127.0.0.1:{port}{ENDPOINT}"),
            *("--header", "Authorization: Key local", "--header", "Content-Type: application/json"),
            *("--data", json.dumps({"video_url": media_server.url(CLIP.name)})),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=JOB_S,
    )
    video = json.loads(reply.stdout)["video"]
    assert video["num_frames"] == 12
    file = httpx.get(video["url"])
    assert file.status_code == 200
    assert len(file.content) == video["file_size"]
