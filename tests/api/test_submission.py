"""Headers and query of run and submit: their effect on the job, and invalid values."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from starlette.requests import Request

from serve_app.api.schema import VideoInput
from serve_app.api.submission import Submission
from serve_app.errors import BadRequest, DownloadFailed, to_wire
from serve_app.jobs.model import NewJob, Priority
from serve_app.parsing import parse_object, validated
from tests.api.harness import INPUT, PATH, SUBMIT, ApiHarness
from tests.jobs.steps import newest

FILES = "https://files.example"


def submission(query: str = "", account: str | None = None, **headers: str) -> Submission:
    state = {} if account is None else {"account": account}
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Submission.of(
        Request({"type": "http", "headers": pairs, "query_string": query.encode(), "state": state}), FILES
    )


def job(submission: Submission, **fields: Any) -> NewJob:
    sent = parse_object(json.dumps(INPUT | fields).encode())
    return submission.job("id", sent, validated(VideoInput, sent))


def test_defaults() -> None:
    new = job(submission())
    request = validated(VideoInput, INPUT).to_request().as_json()
    assert new == NewJob("id", request, payload=INPUT)


def test_every_option_reaches_the_job() -> None:
    new = job(
        submission(
            "fal_webhook=https%3A%2F%2Fhost.example%3A8443%2Fhook%3Fa%3D1&fal_max_queue_length=5",
            account="owner",
            x_fal_request_timeout="30.5",
            x_fal_queue_priority="LOW",
            x_fal_runner_hint="lane 7",
            x_fal_store_io="0",
            x_fal_no_retry="Yes",
            x_fal_object_lifecycle_preference='{"expiration_duration_seconds": 3600, "initial_acl": {}}',
            idempotency_key="k" * 255,
        )
    )
    assert (new.account, new.priority, new.start_timeout_s) == (
        "owner",
        Priority.LOW,
        30.5,
    )
    assert (new.keep_result, new.payload, new.retry, new.lifetime_s) == (False, None, False, 3600.0)
    assert new.idempotency_key == "k" * 255 and new.fingerprint and len(new.fingerprint) == 64
    assert new.webhook == "https://host.example:8443/hook?a=1"


@pytest.mark.parametrize("value", ["normal", "", "high", "0", "é"])
def test_unknown_priorities_are_normal(value: str) -> None:
    assert submission(x_fal_queue_priority=value).priority is Priority.NORMAL


@pytest.mark.parametrize(("value", "keep"), [("0", False), ("1", True), ("", True), ("false", True)])
def test_store_io(value: str, keep: bool) -> None:
    new = job(submission(x_fal_store_io=value))
    assert (new.keep_result, new.payload is not None) == (keep, keep)


@pytest.mark.parametrize(
    ("value", "retry"), [("1", False), ("true", False), ("YES", False), ("0", True), ("no", True), ("", True)]
)
def test_no_retry(value: str, retry: bool) -> None:
    assert job(submission(x_fal_no_retry=value)).retry is retry


@pytest.mark.parametrize("value", ["0.2", "1", "30.0", " 5 ", "1e3"])
def test_timeouts(value: str) -> None:
    assert submission(x_fal_request_timeout=value).start_timeout_s == float(value)


@pytest.mark.parametrize(
    ("value", "lifetime"),
    [
        ('{"expiration_duration_seconds": 60}', 60.0),
        ('{"expiration_duration_seconds": 0.5}', 0.5),
        ('{"expiration_duration_seconds": null}', math.inf),
        ("{}", None),
    ],
)
def test_lifetimes(value: str, lifetime: float | None, caplog: pytest.LogCaptureFixture) -> None:
    assert submission(x_fal_object_lifecycle_preference=value).lifetime_s == lifetime
    assert caplog.text == ""


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{",
        "5",
        "[1]",
        "null",
        '{"expiration_duration_seconds": -1}',
        '{"expiration_duration_seconds": "soon"}',
        '{"expiration_duration_seconds": [1]}',
        '{"expiration_duration_seconds": NaN}',
        '{"expiration_duration_seconds": 1' + "0" * 400 + "}",
    ],
)
def test_invalid_lifetimes_are_ignored_with_a_log_line(value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert submission(x_fal_object_lifecycle_preference=value).lifetime_s is None
    assert "x-fal-object-lifecycle-preference" in caplog.text


INVALID = [
    ({"x_fal_request_timeout": value}, "", "X-Fal-Request-Timeout")
    for value in ("", "soon", "0", "0.1", "-5", "nan", "inf", "1e999", "1,5")
]
INVALID += [({"idempotency_key": "k" * 256}, "", "Idempotency-Key")]
INVALID += [
    ({}, f"fal_max_queue_length={value}", "fal_max_queue_length")
    for value in ("", "-1", "1.5", "many", "%D9%A5", "9" * 5000)
]
INVALID += [
    ({}, f"fal_webhook={value}", "fal_webhook")
    for value in (
        "",
        "host.example/hook",
        "ftp://host.example/hook",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://host.example:99999/",
        "http://[::1/",
        "http://host.example/%00",
        "http://host.example/a%20b",
        "http://host.example/" + "a" * 2048,
    )
]


@pytest.mark.parametrize(("headers", "query", "name"), INVALID)
def test_invalid_values_are_refused(headers: dict[str, str], query: str, name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        submission(query, **headers)


@pytest.mark.parametrize("path", [PATH, SUBMIT])
async def test_bad_requests_on_the_wire(harness: ApiHarness, path: str) -> None:
    async with harness.client() as client:
        for headers, query, name in INVALID:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            reply = await client.post(f"{path}?{query}", json=INPUT, headers=named)
            assert (reply.status_code, reply.json()["error_type"]) == (400, "bad_request")
            assert name in reply.json()["detail"] and reply.headers["x-fal-error-type"] == "bad_request"
            assert reply.headers["x-fal-request-id"]
    assert await newest(harness.store, 1) == []


def test_the_payload_is_the_input_without_the_video() -> None:
    uri = "data:video/mp4;base64," + "A" * 5000
    new = job(submission(), video_url=uri, mine={"list": ["data:,short", uri, 1.5]}, sync_mode="false")
    assert new.input["video_url"] == uri and new.payload is not None
    cut = new.payload["video_url"]
    assert cut.startswith("data:video/mp4;base64,AAAA") and cut.endswith(f"…({len(uri)} bytes)")
    assert len(cut) < 100
    assert new.payload == {
        "video_url": cut,
        "mine": {"list": ["data:,short", cut, 1.5]},
        "sync_mode": "false",
    }


def test_no_payload_of_an_inline_request() -> None:
    assert job(submission(), sync_mode=True).payload is None
    sent = INPUT | {"sync_mode": True, "model": "nonsense"}
    assert submission().refused("id", sent, b"", to_wire(DownloadFailed("x"))).payload is None


def test_no_payload_that_is_too_large() -> None:
    assert job(submission(), other="x" * 100_000).payload is None
    assert job(submission(), other=["data:," + "A" * 2000] * 100_000).payload is None


def test_the_payload_is_json_for_every_database() -> None:
    sent = parse_object(b'{"video_url": "x", "huge": 1e999, "text": "\\u20ac"}')
    assert submission().job("id", sent, validated(VideoInput, sent)).payload == {
        "video_url": "x",
        "huge": None,
        "text": "€",
    }


def test_a_refused_job_keeps_its_payload() -> None:
    wire = to_wire(DownloadFailed("x"))
    new = submission(idempotency_key="k").refused("id", {"model": "nonsense"}, b"...", wire)
    assert (new.error, new.payload, new.input) == (wire, {"model": "nonsense"}, {})
    broken = submission(idempotency_key="k").refused("id", None, b"{", wire)
    assert broken.payload is None and broken.fingerprint not in (None, new.fingerprint)


def test_fingerprints_distinguish_inputs() -> None:
    with_key = submission(idempotency_key="k")
    one = job(with_key).fingerprint
    assert one == job(with_key, model="General Use (Light)", unknown="field").fingerprint
    assert one != job(with_key, model="Matting").fingerprint
    assert job(submission()).fingerprint is None
    wire = to_wire(DownloadFailed("x"))
    ordered = with_key.refused("id", {"a": 1, "b": 2}, b"", wire).fingerprint
    assert ordered == with_key.refused("id", {"b": 2, "a": 1}, b"", wire).fingerprint
