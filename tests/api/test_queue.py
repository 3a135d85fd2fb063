"""The queue's routes: submit, status, result and cancel, in every state of a job, below both forms of its path."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.model import JobState, LogLevel, NewJob, Priority, Progress
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import IngressSettings
from tests.api.harness import (
    APP,
    FORMS,
    INPUT,
    MEDIA,
    PATH,
    SUBMIT,
    VIDEO,
    ApiHarness,
    claimed,
    only_job,
    submitted,
)
from tests.jobs.steps import newest

UNKNOWN_ID = str(uuid.UUID(int=7))


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


async def test_a_body_that_is_too_large_is_not_taken(store: SqlJobStore, artifacts: Artifacts) -> None:
    harness = ApiHarness(store, artifacts, limits=IngressSettings(max_body_bytes=1000))
    async with harness.client() as client:
        reply = await client.post(SUBMIT, json={"video_url": "data:," + "x" * 1000})
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "file_too_large")
    assert await newest(store, 1) == []


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


async def test_the_fal_sdk_asks_with_a_slash_at_the_end(harness: ApiHarness) -> None:
    async with harness.client() as client, harness.runner():
        url = f"/queue{APP}/requests/{(await client.post(SUBMIT, json=INPUT)).json()['request_id']}"
        await client.get(url + "/status/stream")  # ends with the job
        reply = await client.get(url + "/status/")
        assert (reply.status_code, reply.json()["status"]) == (200, "COMPLETED")
        assert (await client.get(url + "/")).json() == (await client.get(url)).json()


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
        ("PUT", f"/queue{APP}/requests/{UNKNOWN_ID}/cancel/", 404),
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
