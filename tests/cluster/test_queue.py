"""The queue of the real application: cancelling running jobs, repeating broken requests, and the log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.service import ENDPOINT, MediaServer, Service
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

LONG = Clip("queue-long.mp4", frames=240, width=160, height=96, options=X264)
SHORT = Clip("queue-short.mp4", frames=30, width=96, height=64, options=X264, audio="aac", audio_seconds=1.2)
REQUESTS = "/queue/fal-ai/birefnet/requests"
HISTORY = "/v1/models/requests/by-endpoint"

UrlOf = Callable[[Clip], str]


@pytest.fixture(scope="module")
def url(media_server: MediaServer, clips_dir: Path) -> UrlOf:
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


def lines(service: Service, job: str) -> list[str]:
    return [line["message"] for line in status(service, job)["logs"]]


def test_cancelling_a_running_job_ends_it_at_once_and_frees_the_replicas(
    service: Service, url: UrlOf
) -> None:
    job = submit(service, url(LONG))
    wait_until(
        lambda: any(line.startswith("network: ") for line in lines(service, job))
    )  # in the midst of it
    assert service.leftovers() != []
    reply = service.client.put(f"{REQUESTS}/{job}/cancel")
    assert (reply.status_code, reply.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    found = status(service, job)
    assert (found["status"], found["error_type"]) == ("COMPLETED", "client_cancelled")
    assert service.client.get(f"{REQUESTS}/{job}").status_code == 499
    assert service.client.put(f"{REQUESTS}/{job}/cancel").json() == {"status": "ALREADY_COMPLETED"}
    wait_until(lambda: service.leftovers() == [])  # only once all calls of its chunks have ended
    assert service.cut_out(url(SHORT)).status_code == 200  # the replicas work on
    assert lines(service, job)[-1] == "cancelled"  # and nothing of it came after its end


def test_the_log_tells_true_figures_in_order(service: Service, url: UrlOf) -> None:
    job = submit(service, url(SHORT))
    wait_until(lambda: status(service, job)["status"] == "COMPLETED")
    found = status(service, job)
    for line in found["logs"]:
        repeats_progress = re.match(r"\d+/30 frames", line["message"])
        assert line["level"] == ("DEBUG" if repeats_progress else "INFO")
    steps = [
        r"queued",
        r"downloaded \d+(\.\d\d MB| bytes) in \d+\.\d s",
        r"indexed: 96x64, 25\.000 frames/s, 30 frames, 1\.20 s, h264, aac 48000 Hz \w+",
        r"network: .* on cpu \(openvino float32\) at 256x256 \(its largest size; 1024x1024 was requested\)",
        r"segmented 30 frames in \d+\.\d s \(\d+\.\d frames/s\)",
        r"joining 2 pieces",
        r"checked output\.mp4: 96x64, 30 frames, 1\.20 s, .*",
        r"completed",
    ]
    messages = [line["message"] for line in found["logs"]]
    progress = [line for line in messages if re.match(r"\d+/30 frames", line)]
    assert all(
        re.fullmatch(step, line)
        for step, line in zip(steps, (m for m in messages if m not in progress), strict=True)
    )
    assert found["metrics"]["inference_time"] > 0


def newest(service: Service) -> str | None:
    """The id of the youngest request in the history."""
    reply = service.client.get(HISTORY, params={"endpoint_id": ENDPOINT.removeprefix("/"), "limit": 1})
    return next((item["request_id"] for item in reply.raise_for_status().json()["items"]), None)


def test_a_run_that_broke_off_is_taken_up_again_with_its_key(service: Service, url: UrlOf) -> None:
    key = {"Idempotency-Key": "once"}
    before = newest(service)
    with service.unfinished_run(url(LONG), key):
        wait_until(lambda: newest(service) != before)
        first = newest(service)
    assert submit(service, url(LONG), **key) == first
    wait_until(lambda: status(service, first)["status"] != "IN_QUEUE")
    assert status(service, first)["status"] == "IN_PROGRESS"  # it was not cancelled with its client
    service.client.put(f"{REQUESTS}/{first}/cancel")
    replayed = service.client.post(ENDPOINT, json={"video_url": url(LONG)}, headers=key)
    assert (replayed.status_code, replayed.headers["x-fal-request-id"]) == (499, first)
    other = service.client.post(ENDPOINT, json={"video_url": url(SHORT)}, headers=key)
    assert (other.status_code, other.json()["error_type"]) == (422, "idempotency_key_reused")


def test_hosts_stand_for_prefixes(service: Service, url: UrlOf) -> None:
    reply = service.client.post(
        ENDPOINT, json={"video_url": url(SHORT)}, headers={"Host": "queue.localhost:8443"}
    )
    found = reply.json()
    assert found["status_url"] == (
        f"http://queue.localhost:8443/fal-ai/birefnet/requests/{found['request_id']}/status"
    )
    wait_until(lambda: status(service, found["request_id"])["status"] == "COMPLETED")
