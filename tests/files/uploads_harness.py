"""A harness for uploads: servers, tokens, and a multipart upload."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.signing import Purpose, Signer
from serve_app.settings import UploadSettings
from tests.waiting import PATIENCE_S

Serve = Callable[[ASGIApp], Awaitable[httpx.AsyncClient]]

SIGNER = Signer(b"a secret of this test")
DATA = os.urandom(300_000)
LIMITS = UploadSettings(max_bytes=1_000_000, lifetime_s=1000.0)


def bearer(account: str | None = "me", lifetime_s: float = 60.0) -> dict[str, str]:
    return {"Authorization": f"Bearer {SIGNER.token(Purpose.UPLOADS, {'account': account}, lifetime_s)}"}


def whole(store: Artifacts) -> list[str]:
    """Every file below the root, scratch and parts included."""
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def split(data: bytes, size: int) -> dict[int, bytes]:
    return {at // size + 1: data[at : at + size] for at in range(0, len(data), size)}


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest_asyncio.fixture(name="serve")
async def serve_fixture() -> AsyncIterator[Serve]:
    """A function that starts a server and returns a client for it; all stop with the test."""
    opened: list[tuple[HttpServer, httpx.AsyncClient]] = []

    async def start(app: ASGIApp) -> httpx.AsyncClient:
        server = HttpServer(app, "127.0.0.1", 0, drain_s=1)
        await server.start()
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=PATIENCE_S
        )
        opened.append((server, client))
        return client

    yield start
    for server, client in opened:
        await client.aclose()
        await server.stop()


@pytest_asyncio.fixture(name="client")
async def client_fixture(serve: Serve, store: Artifacts) -> httpx.AsyncClient:
    return await serve(make_files_app(store, SIGNER, LIMITS))


class Parts:
    """A multipart upload, as the Python client does it."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers
        self.etags: list[dict[str, Any]] = []

    async def initiate(self) -> None:
        headers = self.headers | {"Content-Type": "video/mp4", "X-Fal-File-Name": "long.mp4"}
        reply = await self.client.post("/files/upload/multipart", headers=headers)
        assert reply.status_code == 200
        self.url = reply.json()["access_url"]
        self.base = f"{self.url}/multipart/{reply.json()['uploadId']}"

    async def put(
        self, number: int | str, data: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        headers = self.headers if headers is None else headers
        reply = await self.client.put(f"{self.base}/{number}", content=data, headers=headers)
        if reply.status_code == 200:
            self.etags.append({"partNumber": number, "etag": reply.headers["etag"]})
        return reply

    async def complete(self, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        body = {"parts": self.etags} if body is None else body
        headers = self.headers if headers is None else headers
        return await self.client.post(f"{self.base}/complete", json=body, headers=headers)
