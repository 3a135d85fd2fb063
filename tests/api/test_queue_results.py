"""The queue's routes at the end of a job: results, inline results and cancelling."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from serve_app.errors import (
    DownloadFailed,
    InferenceFailed,
    ReplicasLost,
    StartTimeout,
    StorageUnavailable,
    to_wire,
)
from serve_app.jobs.model import JobState
from serve_app.jobs.request import JobResult
from tests.api.harness import (
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


async def test_a_result_with_a_mask(harness: ApiHarness) -> None:
    async with harness.client() as client:
        base = await submitted(client)
        await harness.store.complete((await claimed(harness)).lease, JobResult(MEDIA, MEDIA).as_json())
        assert (await client.get(base)).json() == {"video": VIDEO, "mask_video": VIDEO}


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
