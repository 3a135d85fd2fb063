"""Synchronous requests: from the body to a job, and from its end to the reply."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest

from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.errors import DownloadFailed, ReplicasLost, WorkTimeout, to_wire
from serve_app.fal import OutputType, Variant
from serve_app.files.links import FileLinks
from serve_app.jobs.model import Claim
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import FILE, INPUT, MEDIA, PATH, SIGNER, VIDEO, ApiHarness
from tests.jobs.steps import newest


@pytest.mark.parametrize("path", [PATH, "/run" + PATH])
async def test_a_request_becomes_a_job_and_its_result_the_reply(harness: ApiHarness, path: str) -> None:
    body = INPUT | {"model": "Portrait", "video_output_type": "VP9 (.webm)", "refine_foreground": False}
    async with harness.runner() as claims, harness.client() as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 200
    assert reply.json() == {"video": VIDEO}
    (claim,) = claims
    assert JobRequest.from_json(claim.input) == JobRequest(
        INPUT["video_url"], Variant.PORTRAIT, refine_foreground=False, output_type=OutputType.WEBM
    )
    assert reply.headers["x-fal-request-id"] == claim.job.id == str(uuid.UUID(claim.job.id))


async def test_a_mask_is_in_the_reply(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.complete(claim.lease, JobResult(MEDIA, MEDIA).as_json())

    async with harness.runner(work), harness.client() as client:
        reply = (await client.post(PATH, json=INPUT)).json()
    assert reply["mask_video"] == reply["video"]


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
async def test_the_content_type_does_not_matter(harness: ApiHarness, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    async with harness.runner(), harness.client() as client:
        reply = await client.post(PATH, content=json.dumps(INPUT), headers=headers)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("base", "public", "url"),
    [
        ("http://127.0.0.1:8000", None, "http://127.0.0.1:8001"),
        ("http://[::1]:8000", None, "http://[::1]:8001"),
        ("https://fal.example.org", None, "http://fal.example.org:8001"),
        ("http://x", "https://cdn.example/prefix/", "https://cdn.example/prefix"),
    ],
)
async def test_urls_have_the_host_that_the_client_used(
    store: SqlJobStore, artifacts: Artifacts, base: str, public: str | None, url: str
) -> None:
    harness = ApiHarness(store, artifacts, urls=FileUrls(8001, FileLinks(SIGNER), public))
    async with harness.runner(), harness.client(base_url=base) as client:
        reply = await client.post(PATH, json=INPUT)
    assert reply.json()["video"]["url"] == url + FILE


@pytest.mark.parametrize("host", ["", 'x"><script>', "a b", "evil.example/path?"])
async def test_an_invalid_host_header_is_not_repeated(harness: ApiHarness, host: str) -> None:
    async with harness.runner(), harness.client() as client:
        reply = await client.post(PATH, json=INPUT, headers={"Host": host})
    url = httpx.URL(reply.json()["video"]["url"])
    assert url.path == FILE and not set(url.host) & set('"<>/? ')


@pytest.mark.parametrize(
    "error", [DownloadFailed("the server answered 404"), ReplicasLost("lost"), WorkTimeout("slow")]
)
async def test_a_failed_job_answers_its_error(harness: ApiHarness, error: Any) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.fail(claim.lease, to_wire(error))

    async with harness.runner(work) as claims, harness.client() as client:
        reply = await client.post(PATH, json=INPUT)
    wire = to_wire(error)
    assert (reply.status_code, reply.json()) == (wire.status, wire.body)
    assert all(reply.headers[name] == value for name, value in wire.headers.items())
    assert reply.headers["x-fal-request-id"] == claims[0].job.id


async def test_a_large_data_uri_reaches_the_runner(harness: ApiHarness) -> None:
    uri = "data:video/mp4;base64," + "A" * 4_000_000
    async with harness.runner() as claims, harness.client() as client:
        assert (await client.post(PATH, json={"video_url": uri})).status_code == 200
    assert claims[0].input["video_url"] == uri


async def test_sync_mode_returns_the_file_and_deletes_it(harness: ApiHarness) -> None:
    async def complete_with_a_file(store: SqlJobStore, claim: Claim) -> object:
        name = f"outputs/{claim.job.id}/1/output.webm"
        harness.artifacts.put_bytes(name, b"a video")
        media = replace(MEDIA, name=name, content_type="video/webm", file_name="output.webm", file_size=7)
        return await store.complete(claim.lease, JobResult(media, inline=True).as_json())

    async with harness.runner(complete_with_a_file), harness.client() as client:
        reply = await client.post(PATH, json=INPUT | {"sync_mode": True})
    assert reply.status_code == 200
    assert reply.json()["video"]["url"] == "data:video/webm;base64,YSB2aWRlbw=="
    assert reply.json()["video"]["file_size"] == 7
    (job,) = await newest(harness.store, 1)
    assert job.result is None
    assert not (harness.artifacts.root / "outputs").exists()
