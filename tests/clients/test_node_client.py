"""The official JavaScript client, unmodified, pointed at this service by a request middleware, a custom `fetch`, or the
proxy route.
"""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import SHORT, Driver, Facts, Program
from tests.cluster.service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.long]

EVERY_MODE = ["middleware", "fetch", "proxy"]


@pytest.fixture(params=["middleware", "fetch"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def drive(javascript: Program) -> Driver:
    return lambda what: json.loads(javascript(f"node_driver.mjs {what}"))


def check_result(facts: Facts) -> None:
    """A result with its id, and a file that Node could download."""
    video = facts["result"]["data"]["video"]
    assert facts["result"]["requestId"] in video["url"]
    assert (video["num_frames"], video["content_type"]) == (SHORT.frames, "video/mp4")
    assert facts["file"] == {"status": 200, "bytes": video["file_size"]}


def check_cancelled(status: Facts) -> None:
    assert (status["status"], status["error_type"]) == ("COMPLETED", "client_cancelled")


def check_field(error: Facts, field: str, kind: str) -> None:
    assert (error["status"], error["name"]) == (422, "ValidationError")
    assert [(item["loc"], item["type"]) for item in error["body"]["detail"]] == [(["body", field], kind)]
    assert error["requestId"]


def check_lines(lines: list[Facts]) -> None:
    """A complete log without repeated lines."""
    assert len(lines) >= 3
    assert len({(line["timestamp"], line["message"]) for line in lines}) == len(lines)


def states(updates: list[Facts]) -> list[str]:
    """The states in the order of their first appearance."""
    return list(dict.fromkeys(update["status"] for update in updates))


def test_run(drive: Driver) -> None:
    check_result(drive("run"))


@pytest.mark.parametrize("mode", ["middleware", "proxy"])
def test_uploads(drive: Driver, files_url: str) -> None:
    facts = drive("upload")
    assert facts["upload"]["url"].startswith(f"{files_url}/files/")
    assert (facts["upload"]["same"], facts["upload"]["type"]) == (True, "video/mp4")
    check_result(facts["run"])


@pytest.mark.parametrize("how", ["polling", "streaming"])
def test_subscribe(drive: Driver, how: str) -> None:
    """Either way the client shows the whole log so far with each update."""
    facts = drive(how)
    check_result(facts)
    assert facts["enqueued"] == facts["result"]["requestId"]
    assert states(facts["updates"])[-2:] == ["IN_PROGRESS", "COMPLETED"]
    check_lines(facts["updates"][-1]["logs"])


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_stream_status(drive: Driver) -> None:
    """Each event has the lines that are new."""
    facts = drive("stream_status")
    assert states(facts["updates"])[-2:] == ["IN_PROGRESS", "COMPLETED"]
    check_lines([line for update in facts["updates"] for line in update["logs"] or ()])
    assert (facts["last"]["status"], facts["last"]["request_id"]) == ("COMPLETED", facts["requestId"])
    assert facts["last"]["response_url"].endswith(f"/requests/{facts['requestId']}")


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_submit_status_result(drive: Driver, service: Service) -> None:
    facts = drive("submit")
    submitted, result = facts["submitted"], facts["result"]
    assert (submitted["status"], submitted["logs"], submitted["metrics"]) == ("IN_QUEUE", None, {})
    assert submitted["queue_position"] >= 0
    job = f"{service.url}/queue/fal-ai/birefnet/requests/{submitted['request_id']}"
    urls = [facts["submitted"][f"{name}_url"] for name in ("response", "status", "cancel")]
    assert urls == [job, f"{job}/status", f"{job}/cancel"]
    assert facts["completed"]["metrics"]["inference_time"] > 0
    check_lines(facts["completed"]["logs"])
    assert result["requestId"] == submitted["request_id"]
    for key in ("video", "mask_video"):
        assert result["data"][key]["content_type"] == "video/webm"
    assert (facts["late"]["status"], facts["late"]["body"]) == (400, {"status": "ALREADY_COMPLETED"})


def test_cancel_of_a_running_job(drive: Driver) -> None:
    facts = drive("cancel")
    assert facts["running"]["status"] == "IN_PROGRESS"
    check_cancelled(facts["after"])
    assert (facts["result"]["status"], facts["result"]["requestId"]) == (499, facts["requestId"])
    assert facts["result"]["body"]["error_type"] == "client_cancelled"
    assert (facts["again"]["status"], facts["again"]["body"]) == (400, {"status": "ALREADY_COMPLETED"})


def test_the_timeout_of_a_subscription_cancels(drive: Driver) -> None:
    facts = drive("timeout")
    assert "timed out" in facts["error"]["message"]
    check_cancelled(facts["after"])


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_errors_of_the_input(drive: Driver) -> None:
    facts = drive("invalid")
    check_field(facts["run"], "video_url", "missing")
    check_field(facts["queue"], "video_quality", "literal_error")
    check_field(facts["source"], "video_url", "file_download_error")


def test_an_id_that_nobody_knows(drive: Driver) -> None:
    for error in drive("unknown").values():
        assert (error["status"], error["name"]) == (404, "ApiError")
        assert error["body"] == {"status": "NOT_FOUND"}


def test_the_documented_snippet(javascript: Program) -> None:
    """Log lines, the result, its id."""
    printed = javascript("snippets/subscribe.mjs")
    assert "url: 'https://127.0.0.1:" in printed
    lines = printed.splitlines()
    assert lines.index("{") > 0
    assert lines[-1] in printed.partition("url:")[2]
