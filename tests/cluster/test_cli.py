"""`birefnet-serve up`: it stops every process, and reports errors in its arguments."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.jobs.model import JobState
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.local.profile import free_port
from tests.cluster.service import ENDPOINT, ROOT, MediaServer, Service, descendants, is_running
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serve_app.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=180,
    )


async def test_up_stops_with_a_job_under_way(
    tmp_path: Path, media_server: MediaServer, clips_dir: Path
) -> None:
    """Ctrl-C: the job goes back to the queue for the next start, and every process ends."""
    make(clips_dir / "under-way.mp4", Clip("under-way.mp4", frames=200, width=160, height=96, options=X264))
    service = Service.start(tmp_path / "data")
    started = descendants(service.process.pid)
    body = {"video_url": media_server.url("under-way.mp4")}
    job_id = service.client.post(f"/queue{ENDPOINT}", json=body).json()["request_id"]
    wait_until(lambda: any((service.data_dir / "artifacts").glob("work/*/source")))
    assert service.stop(signal.SIGINT) == 0
    assert [pid for pid in started if is_running(pid)] == []
    store = SqlJobStore(f"sqlite:///{service.data_dir / 'jobs.sqlite'}")
    await store.open()
    job = await store.get(job_id)
    await store.close()
    assert job is not None and (job.state, job.owner) == (JobState.QUEUED, None)


def test_a_taken_port_is_reported(tmp_path: Path, service: Service) -> None:
    port = service.url.rpartition(":")[2]
    done = cli("up", "--port", port, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr


def test_a_missing_profile_is_reported() -> None:
    done = cli("up", "--config", "config/none.yaml", "--port", str(free_port()))
    assert done.returncode == 2
    assert "config/none.yaml does not exist" in done.stderr
