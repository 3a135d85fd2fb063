"""The application behind the reverse proxy: URLs in replies have the authority that the client used."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from serve_app.api.middleware.host_prefix import ForwardedScheme
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.links import FileLinks
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import FILE, INPUT, PATH, SIGNER, SUBMIT, ApiHarness

HTTPS = {"X-Forwarded-Proto": "https"}


@pytest_asyncio.fixture(name="harness")
async def harness_fixture(store: SqlJobStore, artifacts: Artifacts) -> AsyncIterator[ApiHarness]:
    harness = ApiHarness(store, artifacts, urls=FileUrls(None, FileLinks(SIGNER)))
    async with harness.runner():
        yield harness


def client(harness: ApiHarness, base: str, **headers: str) -> httpx.AsyncClient:
    """Sends requests as the proxy relays them: plain HTTP with the original Host."""
    transport = httpx.ASGITransport(ForwardedScheme(harness.app))
    return httpx.AsyncClient(transport=transport, base_url=base, headers=headers)


@pytest.mark.parametrize("host", ["fal.run", "127.0.0.1:8443", "[::1]:8443", "falrun.com"])
async def test_outputs_are_at_the_same_authority(harness: ApiHarness, host: str) -> None:
    async with client(harness, f"http://{host}", **HTTPS) as proxy:
        output = (await proxy.post(PATH, json=INPUT)).json()
    assert output["video"]["url"] == f"https://{host}{FILE}"


@pytest.mark.parametrize(
    ("host", "path", "queue"),
    [
        ("queue.fal.run", PATH, "https://queue.fal.run"),
        ("queue.falrun.com", PATH, "https://queue.falrun.com"),
        ("127.0.0.1:8443", SUBMIT, "https://127.0.0.1:8443/queue"),
    ],
)
async def test_job_urls_have_the_same_authority(
    harness: ApiHarness, host: str, path: str, queue: str
) -> None:
    async with client(harness, f"http://{host}", **HTTPS) as proxy:
        submit = (await proxy.post(path, json=INPUT)).json()
    assert submit["response_url"] == f"{queue}/fal-ai/birefnet/requests/{submit['request_id']}"


async def test_uploads_go_through_the_proxy(harness: ApiHarness) -> None:
    announced = {"file_name": "clip.mp4", "content_type": "video/mp4"}
    async with client(harness, "http://rest.fal.ai", **HTTPS) as proxy:
        token = (await proxy.post("/storage/auth/token?storage_type=fal-cdn-v3", json={})).json()
        target = (await proxy.post("/storage/upload/initiate", json=announced)).json()
    assert token["base_url"] == "https://rest.fal.ai"
    assert target["upload_url"].startswith("https://rest.fal.ai/files/upload?token=")
    assert target["file_url"].startswith("https://rest.fal.ai/files/")


async def test_invalid_forwarded_schemes_are_ignored(harness: ApiHarness) -> None:
    for scheme in ("", "gopher", "https://evil.example", "https, http"):
        async with client(harness, "http://fal.run", **{"X-Forwarded-Proto": scheme}) as proxy:
            url = (await proxy.post(PATH, json=INPUT)).json()["video"]["url"]
        assert url.startswith("http://fal.run/files/")


async def test_without_the_proxy_the_header_is_ignored(harness: ApiHarness) -> None:
    async with harness.client(base_url="http://fal.run", headers=HTTPS) as direct:
        url = (await direct.post(PATH, json=INPUT)).json()["video"]["url"]
    assert url.startswith("http://fal.run/files/")
