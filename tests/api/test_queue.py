"""The queue's routes: submit, status, result and cancel, in every state of a job, below both forms of its path."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.errors import (
    DownloadFailed,
    InferenceFailed,
    ReplicasLost,
    StartTimeout,
    StorageUnavailable,
    to_wire,
)
from serve_app.jobs.model import Claim, JobState, LogLevel, NewJob, Priority, Progress
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import IngressSettings
from tests.api.harness import APP, INPUT, MEDIA, PATH, SUBMIT, VIDEO, ApiHarness, only_job, submitted
from tests.jobs.steps import newest

FORMS = ["/queue" + APP, "/queue" + PATH]
UNKNOWN_ID = str(uuid.UUID(int=7))


async def claimed(harness: ApiHarness) -> Claim:
    (claim,) = await harness.store.claim("runner", 60.0, 1)
    return claim


async def test_a_submit_returns_the_urls_of_its_job(harness: ApiHarness) -> None:
    async with harness.client() as client:
        reply = await client.post(SUBMIT, json=INPUT | {"model": "Matting"})
    job = await only_job(harness.store)
    url = f"http://service.example:8000/queue/fal-ai/birefnet/requests/{job.id}"
    assert reply.status_code == 200
    assert reply.json() == {
        "status": "IN_QUEUE",
        "queue_position": 0,
        "request_id": job.id,
        "gateway_request_id": job.id,
        "response_url": url,
        "status_url": url + "/status",
        "cancel_url": url + "/cancel",
        "logs": None,
        "metrics": {},
    }
    assert reply.headers["x-fal-request-id"] == job.id == str(uuid.UUID(job.id))
    assert harness.notifier.woken.is_set()
    claim = await claimed(harness)
    assert JobRequest.from_json(claim.input).variant == "Matting"
    assert job.payload == INPUT | {"model": "Matting"}


@pytest.mark.parametrize("form", FORMS)
async def test_the_lifecycle_of_a_job(harness: ApiHarness, form: str) -> None:
    async with harness.client() as client:
        await client.post(SUBMIT, json=INPUT)
        second = (await client.post(SUBMIT, json=INPUT)).json()["request_id"]
        base = f"{form}/requests/{second}"
        url = f"http://service.example:8000/queue/fal-ai/birefnet/requests/{second}"
        common = {
            "request_id": second,
            "response_url": url,
            "status_url": url + "/status",
            "cancel_url": url + "/cancel",
            "logs": None,
            "metrics": {},
        }
        waiting = await client.get(base + "/status")
        assert waiting.status_code == 202
        assert waiting.json() == {"status": "IN_QUEUE", "queue_position": 1} | common

        _, claim = await harness.store.claim("runner", 60.0, 2)
        running = await client.get(base + "/status?logs=false")
        assert (running.status_code, running.json()) == (202, {"status": "IN_PROGRESS"} | common)
        for early in (base, base + "/response"):
            reply = await client.get(early)
            assert (reply.status_code, reply.json()) == (400, {"detail": "Request is still in progress"})

        await harness.store.complete(claim.lease, JobResult(MEDIA).as_json())
        over = await client.get(base + "/status")
        job = await harness.store.get(second)
        assert job is not None and job.started_at is not None and job.finished_at is not None
        metrics = {"inference_time": round(job.finished_at - job.started_at, 3)}
        assert (over.status_code, over.json()) == (
            200,
            {"status": "COMPLETED"} | common | {"metrics": metrics},
        )
        for _ in range(2):
            for path in (base, base + "/response"):
                reply = await client.get(path)
                assert (reply.status_code, reply.json()) == (200, {"video": VIDEO})
                assert reply.headers["x-fal-request-id"] == second
        for reply in (waiting, running, over):
            assert reply.headers["x-fal-request-id"] == second


async def test_a_result_with_a_mask(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        await harness.store.complete((await claimed(harness)).lease, JobResult(MEDIA, MEDIA).as_json())
        assert (await client.get(base)).json() == {"video": VIDEO, "mask_video": VIDEO}


async def test_logs_are_complete_so_far(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        asked = (await client.get(base + "/status?logs=1")).json()["logs"]
        assert isinstance(asked, list)
        claim = await claimed(harness)
        await harness.store.report(claim.lease, Progress("decode", 24, 48), ["decoded 24 frames", "half"])
        for query in ("logs=1", "logs=true", "logs=True"):
            logs = (await client.get(f"{base}/status?{query}")).json()["logs"]
            assert [line["message"] for line in logs][-2:] == ["decoded 24 frames", "half"]
            assert all(line.keys() == {"message", "level", "source", "timestamp"} for line in logs)
            assert all(line["level"] == "INFO" and line["source"] == "USER" for line in logs)
            stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"
            assert all(re.fullmatch(stamp, line["timestamp"]) for line in logs)
        for query in ("", "logs=0", "logs=false", "logs=perhaps"):
            assert (await client.get(f"{base}/status?{query}")).json()["logs"] is None


async def test_the_progress_of_a_running_job_has_fields_of_its_own(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        assert "progress" not in (await client.get(base + "/status")).json()
        claim = await claimed(harness)
        await harness.store.report(claim.lease, Progress("segmenting", 24, 48, 6.0, 4.0))
        assert (await client.get(base + "/status")).json()["progress"] == {
            "stage": "segmenting",
            "frames_done": 24,
            "frames_total": 48,
            "frames_per_second": 6.0,
            "seconds_left": 4.0,
        }
        await harness.store.complete(claim.lease, JobResult(MEDIA).as_json())
        assert "progress" not in (await client.get(base + "/status")).json()


async def test_lines_that_repeat_the_progress_have_a_level_of_their_own(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        claim = await claimed(harness)
        await harness.store.report(claim.lease, Progress(), ["24/48 frames"], LogLevel.DEBUG)
        *_, line = (await client.get(base + "/status?logs=1")).json()["logs"]
        assert (line["message"], line["level"]) == ("24/48 frames", "DEBUG")


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        (DownloadFailed("the server answered 404"), "Invalid status code: 422", "file_download_error"),
        (InferenceFailed("broken"), "Invalid status code: 500", "internal_server_error"),
        (ReplicasLost("lost three times"), "lost three times", "runner_connection_error"),
        (StartTimeout("not started in time"), "not started in time", "request_timeout"),
    ],
)
async def test_a_failed_job_is_completed_with_an_error(
    harness: ApiHarness, error: Any, text: str, kind: str
) -> None:
    wire = to_wire(error)
    async with harness.client() as client:
        base = await submitted(client)
        await harness.store.fail((await claimed(harness)).lease, wire)
        status = await client.get(base + "/status?logs=1")
        assert status.status_code == 200
        body = status.json()
        assert (body["status"], body["error"], body["error_type"]) == ("COMPLETED", text, kind)
        assert body["metrics"] == {} and isinstance(body["logs"], list)
        result = await client.get(base)
    assert (result.status_code, result.json()) == (wire.status, wire.body)
    assert wire.headers and all(result.headers[name] == value for name, value in wire.headers.items())


async def test_a_missed_start_deadline_is_the_clients_timeout(harness: ApiHarness) -> None:
    async with harness.client() as client:
        reply = await client.post(SUBMIT, json=INPUT, headers={"X-Fal-Request-Timeout": "0.11"})
        base = reply.json()["response_url"]
        while not await harness.store.expire_waiting():  # noqa: ASYNC110 (a deadline has no event)
            await asyncio.sleep(0.005)
        status = (await client.get(base + "/status")).json()
        result = await client.get(base)
    assert (status["status"], status["error_type"]) == ("COMPLETED", "request_timeout")
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"video_url": 1e999}',
        b'{"video_url": "x", "video_quality": "\\u0000"}',
        b'{"video_url": "x", "model": "nonsense", "sync_mode": true}',
        b'{"video_url": "x", "operating_resolution": "2304x2304"}',
        b'{"other": "data:video/mp4;base64,' + b"A" * 100_000 + b'"}',
        b'{"other": "' + b"A" * 100_000 + b'"}',
    ],
)
async def test_an_invalid_input_is_accepted_and_fails_as_in_run(harness: ApiHarness, content: bytes) -> None:
    async with harness.runner() as claims, harness.client() as client:
        base = await submitted(client, content=content)
        status = await client.get(base + "/status")
        result = await client.get(base)
        run = await client.post(PATH, content=content)
        cancel = await client.put(base + "/cancel")
    assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    assert status.json()["error"] == "Invalid status code: 422"
    assert status.json()["error_type"] == run.json()["detail"][0]["type"]
    assert result.status_code == run.status_code == 422
    assert result.content == run.content and len(result.content) < 2000
    own = ("x-fal-request-id", "server-timing")
    assert {k: v for k, v in result.headers.items() if k not in own} == {
        k: v for k, v in run.headers.items() if k not in own
    }
    assert (cancel.status_code, cancel.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert claims == [] and (await only_job(harness.store)).state is JobState.FAILED


async def test_a_body_that_is_too_large_is_not_taken(store: SqlJobStore, artifacts: Artifacts) -> None:
    harness = ApiHarness(store, artifacts, limits=IngressSettings(max_body_bytes=1000))
    async with harness.client() as client:
        reply = await client.post(SUBMIT, json={"video_url": "data:," + "x" * 1000})
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "file_too_large")
    assert await newest(store, 1) == []


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_cancel_ends_a_job_at_once(harness: ApiHarness, form: str, running: bool) -> None:
    async with harness.client() as client:
        job_id = (await client.post(SUBMIT, json=INPUT)).json()["request_id"]
        base = f"{form}/requests/{job_id}"
        claim = await claimed(harness) if running else None
        # As the JS client does it: a JSON content type and no body.
        reply = await client.put(base + "/cancel", headers={"Content-Type": "application/json"})
        assert (reply.status_code, reply.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
        assert reply.headers["x-fal-request-id"] == job_id and harness.notifier.cancelled == [job_id]
        status = await client.get(base + "/status")
        assert status.status_code == 200
        assert (status.json()["status"], status.json()["error_type"]) == ("COMPLETED", "client_cancelled")
        assert status.json()["error"] == "Request was cancelled" and status.json()["metrics"] == {}
        result = await client.get(base)
        assert result.status_code == 499 and result.headers["x-fal-error-type"] == "client_cancelled"
        assert result.json() == {"detail": "Request was cancelled", "error_type": "client_cancelled"}
        again = await client.put(base + "/cancel")
        assert (again.status_code, again.json()) == (400, {"status": "ALREADY_COMPLETED"})
        assert harness.notifier.cancelled == [job_id]
        if claim:
            assert not await harness.store.complete(claim.lease, JobResult(MEDIA).as_json())
    assert (await only_job(harness.store)).state is JobState.CANCELLED


async def test_a_finished_job_cannot_be_cancelled(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        await harness.store.complete((await claimed(harness)).lease, JobResult(MEDIA).as_json())
        reply = await client.put(base + "/cancel")
        assert (reply.status_code, reply.json()) == (400, {"status": "ALREADY_COMPLETED"})
        assert (await client.get(base)).status_code == 200


INVALID_IDS = [
    UNKNOWN_ID,
    UNKNOWN_ID.upper(),
    "x",
    "%00",
    "..%5c",
    "%F0%9F%8E%AC",
    "0" * 5000,
    "%27%20OR%201=1",
]


@pytest.mark.parametrize("job_id", INVALID_IDS)
@pytest.mark.parametrize("form", FORMS)
async def test_unknown_ids(harness: ApiHarness, form: str, job_id: str) -> None:
    async with harness.client() as client:
        await client.post(SUBMIT, json=INPUT)
        for method, tail in (
            ("GET", ""),
            ("GET", "/response"),
            ("GET", "/status"),
            ("GET", "/status?logs=1"),
            ("GET", "/status/stream"),
            ("PUT", "/cancel"),
        ):
            reply = await client.request(method, f"{form}/requests/{job_id}{tail}")
            assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})
            assert uuid.UUID(reply.headers["x-fal-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", SUBMIT, 405),
        ("POST", SUBMIT + "/", 404),
        ("POST", SUBMIT + "/stream", 404),
        ("GET", f"/queue{APP}/requests/", 404),
        ("POST", f"/queue{APP}/requests/{UNKNOWN_ID}/cancel", 405),
        ("GET", f"/queue{APP}/requests/{UNKNOWN_ID}/cancel", 405),
        ("PUT", f"/queue{APP}/requests/{UNKNOWN_ID}", 405),
        ("GET", f"/queue{APP}/requests/{UNKNOWN_ID}/", 404),
        ("GET", f"/queue{APP}/requests/{UNKNOWN_ID}/status/", 404),
        ("POST", f"/queue{APP}", 404),
        ("GET", f"{APP}/requests/{UNKNOWN_ID}", 404),
    ],
)
async def test_unknown_paths_are_not_redirected(
    harness: ApiHarness, method: str, path: str, status: int
) -> None:
    async with harness.client() as client:
        reply = await client.request(method, path)
    assert reply.status_code == status and isinstance(reply.json()["detail"], str)
    assert uuid.UUID(reply.headers["x-fal-request-id"])


async def test_a_job_of_another_account_is_unknown(harness: ApiHarness) -> None:
    await harness.store.insert(NewJob(UNKNOWN_ID, {}, account="another"))
    async with harness.client() as client:
        base = f"/queue{APP}/requests/{UNKNOWN_ID}"
        for method, tail in (("GET", ""), ("GET", "/status"), ("GET", "/status/stream"), ("PUT", "/cancel")):
            reply = await client.request(method, base + tail)
            assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})
            assert reply.headers["x-fal-request-id"] != UNKNOWN_ID
    assert (await only_job(harness.store)).state is JobState.QUEUED


async def complete_inline(harness: ApiHarness) -> None:
    claim = await claimed(harness)
    name = f"outputs/{claim.job.id}/1/output.webm"
    harness.artifacts.put_bytes(name, b"a video")
    media = replace(MEDIA, name=name, content_type="video/webm", file_name="output.webm", file_size=7)
    await harness.store.complete(claim.lease, JobResult(media, inline=True).as_json())


async def test_an_inline_result_is_returned_once(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client, json=INPUT | {"sync_mode": True})
        await complete_inline(harness)
        replies = await asyncio.gather(*(client.get(base) for _ in range(5)))
        assert sorted(reply.status_code for reply in replies) == [200, 404, 404, 404, 404]
        for reply in replies:
            if reply.status_code == 200:
                assert reply.json()["video"]["url"] == "data:video/webm;base64,YSB2aWRlbw=="
            else:
                assert reply.json() == {"status": "NOT_FOUND"}
        assert (await client.get(base)).status_code == 404
        status = await client.get(base + "/status")
        assert (status.status_code, status.json()["status"]) == (200, "COMPLETED")
    job = await only_job(harness.store)
    assert (job.result, job.payload) == (None, None)
    assert not (harness.artifacts.root / "outputs").exists()


async def test_an_inline_result_that_could_not_be_read_can_be_requested_again(
    harness: ApiHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.client() as client:
        base = await submitted(client, json=INPUT | {"sync_mode": True})
        await complete_inline(harness)
        with monkeypatch.context() as broken:
            broken.setattr("serve_app.api.results.data_uri", _unavailable)
            assert (await client.get(base)).status_code == 500
        assert (await client.get(base)).status_code == 200
        assert (await client.get(base)).status_code == 404


def _unavailable(*_: object) -> str:
    raise StorageUnavailable("the bucket does not answer")


async def test_an_inline_result_whose_files_were_deleted(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client, json=INPUT | {"sync_mode": True})
        await complete_inline(harness)
        harness.artifacts.delete_prefix(f"outputs/{(await only_job(harness.store)).id}")
        reply = await client.get(base)
    assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})


async def test_an_expired_result(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        await harness.store.complete((await claimed(harness)).lease, JobResult(MEDIA).as_json())
        await harness.store.forget_result((await only_job(harness.store)).id)
        reply = await client.get(base)
    assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})


async def test_low_priority_queues_behind_normal(harness: ApiHarness) -> None:
    async with harness.client() as client:
        low = await submitted(client, json=INPUT, headers={"X-Fal-Queue-Priority": "low"})
        assert (await client.get(low + "/status")).json()["queue_position"] == 0
        normal = await submitted(client, json=INPUT, headers={"X-Fal-Queue-Priority": "normal"})
        assert (await client.get(low + "/status")).json()["queue_position"] == 1
        assert (await client.get(normal + "/status")).json()["queue_position"] == 0
    assert (await claimed(harness)).job.priority is Priority.NORMAL


async def test_every_reply_has_its_server_timing(harness: ApiHarness) -> None:
    async with harness.client() as client:
        replies: list[httpx.Response] = [
            await client.post(SUBMIT, json=INPUT),
            await client.get("/nothing"),
            await client.get("/health"),
            await client.post(PATH, content=b"{"),
        ]
    for reply in replies:
        assert re.fullmatch(r"app;dur=\d+\.\d{3}", reply.headers["server-timing"])
