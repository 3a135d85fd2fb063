"""The queue against the real application: cancelling what runs, repeating what broke off, and what the log says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.service import ENDPOINT, MediaServer, Service
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster

LONG = Clip("queue-long.mp4", frames=240, width=160, height=96, options=X264)
SHORT = Clip("queue-short.mp4", frames=30, width=96, height=64, options=X264, audio="aac", audio_seconds=1.2)
REQUESTS = "/queue/fal-ai/birefnet/requests"
WAIT_S = 120.0


@pytest.fixture(scope="module")
def url(media_server: MediaServer, clips_dir: Path) -> Callable[[Clip], str]:
    def of(clip: Clip) -> str:
        if not (clips_dir / clip.name).exists():
            make(clips_dir / clip.name, clip)
        return media_server.url(clip.name)

    return of


def submit(service: Service, video_url: str, **headers: str) -> str:
    reply = service.client.post(f"/queue{ENDPOINT}", json={"video_url": video_url}, headers=headers)
    assert reply.status_code == 200, reply.text
    job: str = reply.json()["request_id"]
    return job


def status(service: Service, job: str) -> dict[str, Any]:
    reply = service.client.get(f"{REQUESTS}/{job}/status", params={"logs": 1})
    assert reply.headers["x-fal-request-id"] == job
    found: dict[str, Any] = reply.json()
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline


def lines(service: Service, job: str) -> list[str]:
    return [line["message"] for line in status(service, job)["logs"]]


def test_cancelling_a_running_job_ends_it_at_once_and_frees_the_replicas(service: Service, url) -> None:  # type: ignore[no-untyped-def]
    job = submit(service, url(LONG))
    until(lambda: any(line.startswith("network: ") for line in lines(service, job)))  # in the midst of it
    assert service.leftovers() != []
    reply = service.client.put(f"{REQUESTS}/{job}/cancel")
    assert (reply.status_code, reply.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    told = status(service, job)
    assert (told["status"], told["error_type"]) == ("COMPLETED", "client_cancelled")
    assert service.client.get(f"{REQUESTS}/{job}").status_code == 499
    assert service.client.put(f"{REQUESTS}/{job}/cancel").json() == {"status": "ALREADY_COMPLETED"}
    until(lambda: service.leftovers() == [])  # only once all calls of its chunks have ended
    assert service.cut_out(url(SHORT)).status_code == 200  # the replicas work on
    assert lines(service, job)[-1] == "cancelled"  # and nothing of it came after its end


def test_the_log_tells_true_figures_in_order(service: Service, url) -> None:  # type: ignore[no-untyped-def]
    job = submit(service, url(SHORT))
    until(lambda: status(service, job)["status"] == "COMPLETED")
    told = status(service, job)
    assert {line["level"] for line in told["logs"]} == {"INFO"}
    steps = [
        r"queued",
        r"downloaded \d+(\.\d\d MB| bytes) in \d+\.\d s",
        r"indexed: 96x64, 25\.000 frames/s, 30 frames, 1\.20 s, h264, aac 48000 Hz \w+",
        r"network: .* on cpu \(openvino float32\) at 256x256 \(its largest size; 1024x1024 was asked for\)",
        r"segmented 30 frames in \d+\.\d s \(\d+\.\d frames/s\)",
        r"joining 2 pieces",
        r"checked output\.mp4: 96x64, 30 frames, 1\.20 s, .*",
        r"completed",
    ]
    messages = [line["message"] for line in told["logs"]]
    progress = [line for line in messages if re.match(r"\d+/30 frames", line)]
    assert all(
        re.fullmatch(step, line)
        for step, line in zip(steps, (m for m in messages if m not in progress), strict=True)
    )
    assert 0 < told["metrics"]["inference_time"] < WAIT_S


def test_a_run_that_broke_off_is_taken_up_again_with_its_key(service: Service, url) -> None:  # type: ignore[no-untyped-def]
    key = {"Idempotency-Key": "once"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{service.url}{ENDPOINT}", json={"video_url": url(LONG)}, headers=key, timeout=3.0)
    first = submit(service, url(LONG), **key)
    assert status(service, first)["status"] == "IN_PROGRESS"  # it was not cancelled with its client
    service.client.put(f"{REQUESTS}/{first}/cancel")
    replayed = service.client.post(ENDPOINT, json={"video_url": url(LONG)}, headers=key)
    assert (replayed.status_code, replayed.headers["x-fal-request-id"]) == (499, first)
    other = service.client.post(ENDPOINT, json={"video_url": url(SHORT)}, headers=key)
    assert (other.status_code, other.json()["error_type"]) == (422, "idempotency_key_reused")


def test_hosts_stand_for_prefixes(service: Service, url) -> None:  # type: ignore[no-untyped-def]
    reply = service.client.post(
        ENDPOINT, json={"video_url": url(SHORT)}, headers={"Host": "queue.example.org:8443"}
    )
    told = reply.json()
    assert told["status_url"] == (
        f"http://queue.example.org:8443/fal-ai/birefnet/requests/{told['request_id']}/status"
    )
    until(lambda: status(service, told["request_id"])["status"] == "COMPLETED")
