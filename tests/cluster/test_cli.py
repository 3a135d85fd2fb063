"""`birefnet-serve up`: it stops every process, and reports errors in its arguments."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from serve_app.local.profile import free_port
from tests.cluster.service import ENDPOINT, ROOT, MediaServer, Service, descendants, is_running
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serve_app.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=180,
    )


def test_up_stops_with_a_running_job(tmp_path: Path, media_server: MediaServer, clips_dir: Path) -> None:
    """Ctrl-C: the job goes back to the queue for the next start, and every process ends."""
    make(clips_dir / "under-way.mp4", Clip("under-way.mp4", frames=200, width=160, height=96, options=X264))
    service = Service.start(tmp_path / "data")
    started = descendants(service.process.pid)

    def ask() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(
                service.url + ENDPOINT, json={"video_url": media_server.url("under-way.mp4")}, trust_env=False
            )

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not any((service.data_dir / "artifacts").glob("work/*/source")):
        assert waiting.is_alive()
        time.sleep(0.05)
    assert service.stop(signal.SIGINT) == 0
    waiting.join()
    assert [pid for pid in started if is_running(pid)] == []


def test_a_taken_port_is_reported(tmp_path: Path, service: Service) -> None:
    port = service.url.rpartition(":")[2]
    done = cli("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr


def test_a_missing_profile_is_reported() -> None:
    done = cli("up", "--config", "config/none.yaml", "--port", str(free_port()))
    assert done.returncode == 2
    assert "config/none.yaml does not exist" in done.stderr
