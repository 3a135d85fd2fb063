"""Both clients without any setting: the vendor's names resolve to this service, and its authority is trusted."""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import SHORT, Driver, Facts, Program
from tests.cluster.service import Service
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def python(named_python: Program) -> Driver:
    return lambda what: json.loads(named_python(f"python_driver.py {what}"))


@pytest.fixture
def javascript(named_javascript: Program) -> Driver:
    return lambda what: json.loads(named_javascript(f"node_driver.mjs {what}"))


def check_video(video: Facts, file: Facts, host: str) -> None:
    """The result's URL has the host that the client used."""
    assert video["url"].startswith(f"https://{host}/files/")
    assert video["num_frames"] == SHORT.frames
    assert file == {"status": 200, "bytes": video["file_size"]}


def check_upload(upload: Facts, host: str, kind: str = "video/mp4") -> None:
    assert upload["url"].startswith(f"https://{host}/files/")
    assert (upload["same"], upload["type"]) == (True, kind)


def test_python_queues(python: Driver) -> None:
    facts = python("submit")
    job = f"https://queue.fal.run/fal-ai/birefnet/requests/{facts['handle']['request_id']}"
    assert (facts["handle"]["response_url"], facts["handle"]["status_url"]) == (job, f"{job}/status")
    for key in ("video", "mask_video"):
        assert facts["result"][key]["url"].startswith("https://queue.fal.run/files/")
    assert facts["rebuilt"] == [facts["completed"], facts["result"]]


def test_python_subscribes(python: Driver) -> None:
    facts = python("subscribe")
    assert [update["state"] for update in facts["updates"]][-1] == "Completed"
    assert len(facts["updates"][-1]["logs"]) >= 3


def test_python_uploads(python: Driver) -> None:
    facts = python("upload")
    *cdn, announced = facts["uploads"]
    for upload in cdn:
        check_upload(upload, "v3.fal.media")
    check_upload(announced, "rest.fal.ai")
    check_video(facts["result"]["video"], facts["file"], "fal.run")


def test_python_uploads_in_parts(python: Driver) -> None:
    check_upload(python("large_upload"), "rest.fal.ai", "video/webm")


def test_javascript_subscribes(javascript: Driver) -> None:
    """By events, so that they are seen to pass the reverse proxy."""
    facts = javascript("streaming")
    check_video(facts["result"]["data"]["video"], facts["file"], "queue.fal.run")
    assert facts["updates"][-1]["status"] == "COMPLETED"
    assert len(facts["updates"][-1]["logs"]) >= 3


def test_javascript_uploads(javascript: Driver) -> None:
    facts = javascript("upload")
    check_upload(facts["upload"], "rest.fal.ai")
    check_video(facts["run"]["result"]["data"]["video"], facts["run"]["file"], "fal.run")


def test_javascript_uploads_in_parts(javascript: Driver) -> None:
    check_upload(javascript("large_upload"), "rest.fal.ai", "video/webm")


def test_every_host_is_served(named: Service) -> None:
    listing = "/v1/models/requests/by-endpoint?endpoint_id=fal-ai/birefnet/v2/video"
    for host, path in (
        ("api.fal.ai", listing),
        ("rest.fal.ai", "/.well-known/jwks.json"),
        ("falrun.com", "/health"),
        ("fal.run", "/rest/.well-known/jwks.json"),
    ):
        assert named.client.get(path, headers={"Host": host}).status_code == 200
    for host in ("queue.fal.run", "queue.falrun.com"):
        reply = named.client.get("/fal-ai/birefnet/requests/unknown/status", headers={"Host": host})
        assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})


def test_a_run_whose_client_leaves_is_cancelled(named: Service, clips: tuple[str, str]) -> None:
    """All the way through the reverse proxy, Serve and the job table."""

    def jobs(state: str) -> int:
        return int(named.client.get("/health").json()["jobs"].get(state, 0))

    cancelled = jobs("cancelled")
    with named.unfinished_run(clips[1]):
        wait_until(lambda: jobs("running") == 1)
    wait_until(lambda: jobs("cancelled") == cancelled + 1)


def test_prefixes_work_on_the_one_port(named: Service, clips: tuple[str, str]) -> None:
    """For clients that use the address of the service."""
    for prefix in ("", "/run"):
        reply = named.client.post(f"{prefix}/fal-ai/birefnet/v2/video", json={"video_url": clips[0]})
        url = reply.raise_for_status().json()["video"]["url"]
        assert url.startswith(f"{named.url}/files/")
        assert named.client.get(url).status_code == 200
    submit = named.client.post("/queue/fal-ai/birefnet/v2/video", json={"video_url": clips[0]}).json()
    assert submit["status_url"].startswith(f"{named.url}/queue/fal-ai/birefnet/requests/")
    named.client.put(submit["cancel_url"]).raise_for_status()
