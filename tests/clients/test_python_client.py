"""The official Python client, unmodified: only its hosts, key and trusted authority are set."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tests.clients.conftest import SHORT, Driver, Facts, Program
from tests.cluster.service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def drive(python: Program) -> Driver:
    return lambda what: json.loads(python(f"python_driver.py {what}"))


def check_video(service: Service, video: Facts, content_type: str = "video/mp4") -> None:
    """The fields are correct, and the file is served over https."""
    assert video["url"].startswith("https://127.0.0.1:")
    assert (video["num_frames"], video["content_type"]) == (SHORT.frames, content_type)
    assert len(service.client.get(video["url"]).raise_for_status().content) == video["file_size"]


def check_updates(updates: list[Facts]) -> None:
    """States only advance, and the log only grows and is complete in the end."""
    order = ["Queued", "InProgress", "Completed"]
    states = [order.index(update["state"]) for update in updates]
    assert states == sorted(states)
    assert {1, 2} <= set(states)
    logs = [update["logs"] for update in updates if update["state"] != "Queued"]
    for earlier, later in pairwise(logs):
        assert later[: len(earlier)] == earlier
    assert len(logs[-1]) >= 3
    for line in logs[-1]:
        assert {"message", "level", "source", "timestamp"} <= line.keys()
    assert updates[-1]["error"] is None
    assert updates[-1]["metrics"]["inference_time"] > 0


def check_cancelled(status: Facts) -> None:
    assert (status["state"], status["error_type"]) == ("Completed", "client_cancelled")


def check_field(error: Facts, field: str, kind: str) -> None:
    """A model error about one field of the input."""
    assert error["status"] == 422
    assert [(item["loc"], item["type"]) for item in error["detail"]] == [(["body", field], kind)]
    assert error["detail"][0]["msg"]
    assert error["headers"]["x-fal-request-id"]


def test_run(drive: Driver, service: Service) -> None:
    facts = drive("run")
    check_video(service, facts["result"]["video"])
    assert facts["file"] == {"status": 200, "bytes": facts["result"]["video"]["file_size"]}


def test_submit_status_result(drive: Driver, service: Service) -> None:
    facts = drive("submit")
    job = f"{service.url}/queue/fal-ai/birefnet/requests/{facts['handle']['request_id']}"
    assert (facts["handle"]["response_url"], facts["handle"]["status_url"]) == (job, f"{job}/status")
    assert facts["first"]["state"] in ("Queued", "InProgress")
    for key in ("video", "mask_video"):
        check_video(service, facts["result"][key], "video/webm")
    assert facts["completed"]["logs"]
    assert facts["without_logs"]["logs"] is None
    assert facts["rebuilt"] == [facts["completed"], facts["result"]]
    assert facts["by_id"] == facts["result"]
    assert facts["late_cancel"]["status"] == 400
    assert json.loads(facts["late_cancel"]["detail"]) == {"status": "ALREADY_COMPLETED"}


def test_subscribe_with_logs(drive: Driver, service: Service) -> None:
    facts = drive("subscribe")
    check_updates(facts["updates"])
    check_video(service, facts["result"]["video"])
    assert facts["enqueued"][0] in facts["result"]["video"]["url"]


def test_uploads(drive: Driver, service: Service, files_url: str) -> None:
    """With the two constants set that stand for where uploads go."""
    facts = drive("upload")
    for upload in facts["uploads"]:
        assert upload["url"].startswith(f"{files_url}/files/")
        assert (upload["same"], upload["type"]) == (True, "video/mp4")
    check_video(service, facts["result"]["video"])


def test_inline_result_with_mask(drive: Driver) -> None:
    """Once: it is not kept."""
    facts = drive("inline")
    for key in ("video", "mask_video"):
        assert facts["result"][key]["url"].startswith("data:video/mp4;base64,")
    assert facts["again"]["status"] == 404


def test_the_asynchronous_client(drive: Driver, service: Service) -> None:
    facts = drive("events")
    check_updates(facts["updates"])
    check_video(service, facts["result"]["video"])
    assert facts["rebuilt"] == facts["result"]


def test_cancel_of_a_running_job(drive: Driver) -> None:
    facts = drive("cancel")
    check_cancelled(facts["after"])
    assert facts["after"]["logs"]
    assert (facts["result"]["status"], facts["result"]["error_type"]) == (499, "client_cancelled")
    assert facts["result"]["headers"]["x-fal-request-id"] == facts["request_id"]
    assert facts["again"]["status"] == 400


def test_client_timeout_cancels_and_lets_the_program_end(drive: Driver) -> None:
    """The client's thread polls until the job is over, and a program waits for its threads."""
    facts = drive("client_timeout")
    assert facts["timeout"] == 4
    check_cancelled(facts["after"])


def test_priorities_and_the_start_deadline(drive: Driver) -> None:
    facts = drive("busy")
    low, normal = facts["positions"]["low"], facts["positions"]["normal"]
    assert (low["state"], normal["state"]) == ("Queued", "Queued")
    assert low["position"] > normal["position"] >= 0
    assert (facts["late"]["status"], facts["late"]["error_type"]) == (504, "request_timeout")
    assert facts["late"]["headers"]["x-fal-request-timeout-type"] == "user"
    assert facts["late_status"]["error_type"] == "request_timeout"
    check_cancelled(facts["left"])


def test_errors_of_the_input(drive: Driver) -> None:
    """The same by both ways; a job of the queue fails, its submission does not."""
    facts = drive("invalid")
    for way in ("run", "queue"):
        check_field(facts[f"{way}_missing"], "video_url", "missing")
        check_field(facts[f"{way}_enum"], {"run": "model", "queue": "video_quality"}[way], "literal_error")
    check_field(facts["queue_source"], "video_url", "file_download_error")
    check_field(facts["run_source"], "video_url", "unsupported_video_format")


def test_an_id_that_nobody_knows(drive: Driver) -> None:
    for error in drive("unknown").values():
        assert error["status"] == 404
        assert json.loads(error["detail"]) == {"status": "NOT_FOUND"}
        assert error["headers"]["x-fal-request-id"]


def test_the_documented_snippet(python: Program, service: Service) -> None:
    *lines, result = python("snippets/subscribe.py").splitlines()
    assert lines
    assert result.startswith("{'video': {'url': 'https://127.0.0.1:")
