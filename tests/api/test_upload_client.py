"""Uploads by the official Python client over plain http: its upload URLs, unlike its hosts, have a scheme."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import fal_client.client as official
import httpx
import pytest

from tests.api.uploads_harness import DATA, Service, service_fixture  # noqa: F401


@pytest.fixture
def python(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[fal_client.SyncClient]:
    """The official client, pointed at this service. It never closes its connections; this fixture does."""
    opened: list[httpx.Client] = []

    class Recorded(httpx.Client):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            opened.append(self)

    monkeypatch.setattr(httpx, "Client", Recorded)
    monkeypatch.setattr(official, "REST_URL", service.rest)
    monkeypatch.setattr(official, "CDN_URL", service.files)
    monkeypatch.setattr(official, "MULTIPART_THRESHOLD", 300_000)
    monkeypatch.setattr(official, "MULTIPART_CHUNK_SIZE", 30_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield fal_client.SyncClient(key="id:secret")
    for client in opened:
        client.close()


async def test_the_client_uploads(service: Service, python: fal_client.SyncClient) -> None:
    url = await asyncio.to_thread(python.upload, DATA[:1000], "video/mp4", "clip.mp4")
    assert (await service.client.get(url)).content == DATA[:1000]
    assert service.name_of(url).endswith("/clip.mp4")
    lifecycle = fal_client.client.StorageSettings(expires_in="1h")
    url = await asyncio.to_thread(python.upload, b"", "video/mp4", lifecycle=lifecycle)
    expires = int(service.name_of(url).split("/")[1].split("-")[0])
    assert 3500 < expires - time.time() <= 3601 and url.endswith("/upload.mp4")


async def test_the_client_uploads_in_parts(
    service: Service, python: fal_client.SyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "long clip.mov"
    path.write_bytes(DATA)
    urls = [
        await asyncio.to_thread(python.upload, DATA, "video/mp4", "long.mp4"),
        await asyncio.to_thread(python.upload_file, path),
    ]
    for url, kind in zip(urls, ("video/mp4", "video/quicktime"), strict=True):
        download = await service.client.get(url)
        assert download.content == DATA and download.headers["content-type"] == kind
    assert service.names() == sorted(service.name_of(url) for url in urls)


async def test_the_asynchronous_python_client(service: Service, python: fal_client.SyncClient) -> None:
    client = fal_client.AsyncClient(key="id:secret")
    for data in (DATA[:1000], DATA):
        url = await client.upload(data, "video/mp4", "clip.mp4")
        assert (await service.client.get(url)).content == data


async def test_the_client_falls_back(service: Service, python: fal_client.SyncClient) -> None:
    url = await asyncio.to_thread(python.upload, DATA[:1000], "video/mp4", "clip.mp4", repository="fal")
    assert re.fullmatch(re.escape(service.files) + r"/files/[^/]+/uploads/\d{10}-\w+/clip\.mp4", url)
    assert (await service.client.get(url)).content == DATA[:1000]


async def test_the_client_gets_the_error_message(
    service: Service, python: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "MULTIPART_THRESHOLD", 10_000_000)
    with pytest.raises(
        fal_client.FalClientHTTPError, match="larger than the limit of 2000000 bytes"
    ) as caught:
        await asyncio.to_thread(python.upload, bytes(2_000_001), "video/mp4", "clip.mp4")
    assert caught.value.status_code == 413
    assert service.names() == []
