"""No accepted job is lost: every process is killed in the middle of twenty jobs, on both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster import light
from tests.cluster.media import read
from tests.cluster.service import ENDPOINT, MediaServer, Service
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

JOBS = 20
CLIP = Clip("restart.mp4", frames=60, width=160, height=96, options=X264, audio="aac", audio_seconds=2.4)
WAIT_S = 180.0


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of the database; none for SQLite, which is in the data directory."""
    if request.param == "sqlite":
        return {}
    new_postgres: Callable[[bool], str] = request.getfixturevalue("new_postgres")
    return {"BIREFNET_DATABASE": new_postgres(False)}


def finished(service: Service, ids: list[str]) -> dict[str, dict[str, Any]]:
    """The status objects of those jobs that have ended."""
    replies = {job: service.client.get(status_path(job), params={"logs": 1}) for job in ids}
    assert {reply.status_code for reply in replies.values()} <= {200, 202}
    return {job: reply.json() for job, reply in replies.items() if reply.status_code == 200}


def status_path(job: str) -> str:
    return f"/queue/fal-ai/birefnet/requests/{job}/status"


def until(service: Service, ids: list[str], enough: Callable[[int], bool]) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        over = finished(service, ids)
        if enough(len(over)):
            return over
    raise AssertionError(f"{len(over)} of {len(ids)} jobs have ended")


def test_twenty_jobs_survive_the_death_of_every_process(
    tmp_path: Path, clips_dir: Path, media_server: MediaServer, database: dict[str, str]
) -> None:
    make(clips_dir / CLIP.name, CLIP)
    environment = light.ENVIRONMENT | {light.FRAME_S: "0.008", "BIREFNET_RUNNER__LEASE_S": "5"} | database
    service = Service.start(tmp_path / "data", environment=environment)
    fields = {"video_url": media_server.url(CLIP.name), "video_output_type": "X264 (.mp4)"}
    ids = [service.client.post(f"/queue{ENDPOINT}", json=fields).json()["request_id"] for _ in range(JOBS)]
    assert len(set(ids)) == JOBS
    before = until(service, ids, lambda over: over >= 3)
    results = {job: service.client.get(f"/queue/fal-ai/birefnet/requests/{job}").json() for job in before}
    service.kill()
    assert len(before) < JOBS

    service = Service.start(tmp_path / "data", environment=environment)
    try:
        over = until(service, ids, lambda over: over == JOBS)
        check(service, tmp_path, over, results)
    finally:
        assert service.stop() == 0


def check(
    service: Service, tmp_path: Path, over: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]]
) -> None:
    """Every job is completed with a single version of its result, and its file is complete."""
    taken_over = 0
    decoded = set()
    for job, status in over.items():
        assert "error" not in status, status
        lines = [line["message"] for line in status["logs"]]
        assert lines.count("queued") == lines.count("completed") == 1
        taken_over += any(line.startswith("taken over") for line in lines)
        reply = service.client.get(f"/queue/fal-ai/birefnet/requests/{job}")
        video = reply.json()["video"]
        if job in results:
            assert without_origin(results[job]["video"]) == without_origin(video)
        files = [path for path in (service.data_dir / "artifacts/outputs" / job).rglob("*") if path.is_file()]
        assert len(files) == 1
        assert files[0].stat().st_size == video["file_size"]
        path = tmp_path / f"{job}.mp4"
        path.write_bytes(httpx.get(video["url"], trust_env=False).raise_for_status().content)
        media = read(path)
        assert len(media.times) == video["num_frames"] == CLIP.frames
        assert media.audio is not None
        decoded.add(media.grey.tobytes())
    assert taken_over > 0  # the kill did hit running jobs
    assert len(decoded) == 1  # and changed none of their outputs
    wait_until(lambda: service.leftovers() == [])


def without_origin(video: dict[str, Any]) -> dict[str, Any]:
    """Drops the origin of the URL: after a restart, the file server has another port."""
    return video | {"url": httpx.URL(video["url"]).path}
