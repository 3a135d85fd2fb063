"""Uploads with an API key, as `fal-client` 0.5.0 makes them: to fal.media, and in no other way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.reverse_proxy import ReverseProxy
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import UploadSettings
from tests.api.harness import SIGNER, ApiHarness

DATA = b"the bytes of a video" * 10_000
UPLOAD = {"Host": "fal.media", "Content-Type": "video/mp4"}


class Proxy:
    """The reverse proxy in front of a file server and an API that requires keys."""

    def __init__(self, keys: KeyTable, artifacts: Artifacts, api: HttpServer, client: httpx.AsyncClient):
        self.keys = keys
        self.artifacts = artifacts
        self.api = api
        self.client = client

    async def upload(
        self, authorization: str | None, path: str = "/files/upload", method: str = "POST", **headers: str
    ) -> httpx.Response:
        sent = UPLOAD | headers | ({"Authorization": authorization} if authorization is not None else {})
        return await self.client.request(method, path, content=DATA, headers=sent)

    def files(self) -> list[str]:
        root = self.artifacts.root
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


@pytest_asyncio.fixture
async def proxy(store: SqlJobStore, artifacts: Artifacts) -> AsyncIterator[Proxy]:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0))
    api = HttpServer(harness.app, "127.0.0.1", 0, drain_s=1)
    await api.start()
    files = make_files_app(artifacts, SIGNER, UploadSettings())
    relay = ReverseProxy(files, f"http://127.0.0.1:{api.port}")
    front = HttpServer(relay, "127.0.0.1", 0, drain_s=1)
    await front.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}", trust_env=False) as client:
        yield Proxy(keys, artifacts, api, client)
    await front.stop()
    await relay.close()
    await api.stop()
    await keys.close()


@pytest.mark.parametrize("form", ["Key {}", "key   {}"])
async def test_a_key_is_enough_for_an_upload(proxy: Proxy, form: str) -> None:
    key = await proxy.keys.create("laptop")
    reply = await proxy.upload(form.format(key.text))
    assert reply.status_code == 200, reply.text
    url = httpx.URL(reply.json()["access_url"])
    assert url.host == "fal.media"
    found = await proxy.client.get(url.path, headers={"Host": "fal.media"})
    assert (found.content, found.headers["content-type"]) == (DATA, "video/mp4")


@pytest.mark.parametrize("wrong", ["{}x", "id:secret", "no-colon"])
async def test_a_wrong_key_gets_the_refusal_of_the_api(proxy: Proxy, wrong: str) -> None:
    key = await proxy.keys.create("laptop")
    authorization = f"Key {wrong.format(key.text)}"
    reply = await proxy.upload(authorization)
    asked = await proxy.client.post("/rest/storage/auth/token", headers={"Authorization": authorization})
    assert (reply.status_code, reply.json()) == (asked.status_code, asked.json())
    assert reply.status_code == 401
    assert proxy.files() == []


async def test_no_other_request_is_accepted_with_a_key(proxy: Proxy) -> None:
    key = f"Key {(await proxy.keys.create('laptop')).text}"
    for reply in (
        await proxy.upload(None),
        await proxy.upload(key.replace("Key", "Basic")),
        await proxy.upload(key, Host="v3.fal.media"),
        await proxy.upload(key, Host="fal.media.example"),
        await proxy.upload(key, path="/files/upload/multipart"),
        await proxy.upload(key, method="PUT"),
    ):
        assert reply.status_code == 401, reply.request.url
    assert proxy.files() == []


async def test_without_the_api_the_upload_can_be_sent_again(proxy: Proxy) -> None:
    key = await proxy.keys.create("laptop")
    await proxy.api.stop()
    reply = await proxy.upload(f"Key {key.text}")
    assert (reply.status_code, reply.headers["x-fal-retryable"]) == (503, "true")
    assert proxy.files() == []
