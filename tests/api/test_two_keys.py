"""Two accounts: what one has, in any form, is to the other as if it did not exist, or is refused."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve_app.accounts.keys import KeyTable, NewKey
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import UploadSettings
from tests.accounts.test_keys import Clock
from tests.api.harness import FORMS, INPUT, SIGNER, SUBMIT, ApiHarness

HISTORY = "/v1/models/requests/by-endpoint?endpoint_id=fal-ai/birefnet/v2/video"
PAYLOADS = "/v1/models/requests/{id}/payloads"
ROUTES = [
    *(
        (method, form + tail)
        for form in FORMS
        for method, tail in (
            ("GET", "/requests/{id}"),
            ("GET", "/requests/{id}/response"),
            ("GET", "/requests/{id}/status?logs=1"),
            ("GET", "/requests/{id}/status/stream"),
            ("PUT", "/requests/{id}/cancel"),
        )
    ),
    ("DELETE", PAYLOADS),
]


class Both:
    """An application that requires keys, a file server beside it, and the keys of two accounts."""

    def __init__(self, store: SqlJobStore, artifacts: Artifacts) -> None:
        self.store = store
        self.keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
        self.clock = Clock()
        self.harness = ApiHarness(store, artifacts, verifier=Verifier(self.keys, 5.0, self.clock))
        self.files = httpx.AsyncClient(
            transport=httpx.ASGITransport(
                make_files_app(artifacts, SIGNER, UploadSettings(keep_free_bytes=0))
            ),
            base_url="http://files.example",
        )
        self.alice: NewKey
        self.bob: NewKey

    async def ask(self, key: str, method: str, path: str, **more: Any) -> httpx.Response:
        """`key`: the credentials with their scheme."""
        async with self.harness.client(headers={"Authorization": key}) as client:
            return await client.request(method, path, **more)

    async def token(self, key: NewKey) -> str:
        """A token in place of the key."""
        wanted = {"allowed_apps": ["birefnet"], "token_expiration": 600}
        return str((await self.ask(f"Key {key.text}", "POST", "/tokens/", json=wanted)).json())

    async def bearer(self, key: NewKey) -> dict[str, str]:
        """The header for uploads."""
        reply = await self.ask(f"Key {key.text}", "POST", "/storage/auth/token", json={})
        return {"Authorization": f"Bearer {reply.json()['token']}"}


@pytest_asyncio.fixture
async def both(store: SqlJobStore, artifacts: Artifacts) -> AsyncIterator[Both]:
    both = Both(store, artifacts)
    both.alice = await both.keys.create("alice")
    both.bob = await both.keys.create("bob", admin=True)
    yield both
    await both.files.aclose()
    await both.keys.close()


@pytest.mark.parametrize("credentials", ["key", "bearer key", "token"])
async def test_every_route_treats_the_others_request_as_unknown(both: Both, credentials: str) -> None:
    job = (await both.ask(f"Key {both.alice.text}", "POST", SUBMIT, json=INPUT)).json()["request_id"]
    bobs = {
        "key": f"Key {both.bob.text}",
        "bearer key": f"Bearer {both.bob.text}",
        "token": f"Bearer {await both.token(both.bob)}",
    }[credentials]
    for method, route in ROUTES:
        for form in (job, job.upper(), f"{{{job}}}", f"urn:uuid:{job}", job.replace("-", ""), f" {job}"):
            foreign = await both.ask(bobs, method, route.replace("{id}", form))
            unknown = await both.ask(bobs, method, route.replace("{id}", str(uuid.uuid4())))
            assert foreign.status_code in (404, unknown.status_code), f"{method} {route} {form}"
            assert foreign.status_code >= 400 and job not in foreign.text
    assert job not in (await both.ask(bobs, "GET", HISTORY)).text
    assert job not in (await both.ask(bobs, "GET", f"{HISTORY}&request_id={job}")).text
    kept = await both.store.get(job)
    assert kept is not None and not kept.state.terminal and kept.payload is not None
    assert job in (await both.ask(f"Key {both.alice.text}", "GET", HISTORY)).text


async def test_an_upload_in_parts_belongs_to_the_account_that_began_it(both: Both) -> None:
    alice, bob = await both.bearer(both.alice), await both.bearer(both.bob)
    begun = (await both.files.post("/files/upload/multipart", headers=alice)).json()
    parts = f"{begun['access_url']}/multipart/{begun['uploadId']}"
    etag = (await both.files.put(f"{parts}/1", content=b"alice", headers=alice)).headers["etag"]
    assert (await both.files.put(f"{parts}/1", content=b"bob", headers=bob)).status_code == 404
    listed = {"parts": [{"partNumber": 1, "etag": etag}]}
    assert (await both.files.post(f"{parts}/complete", json=listed, headers=bob)).status_code == 404
    other = (await both.files.post("/files/upload/multipart", headers=bob)).json()
    crossed = f"{begun['access_url']}/multipart/{other['uploadId']}/1"
    assert (await both.files.put(crossed, content=b"bob", headers=bob)).status_code == 404
    assert (await both.files.post(f"{parts}/complete", json=listed, headers=alice)).status_code == 200
    assert (await both.files.get(begun["access_url"])).content == b"alice"


async def test_a_revoked_key_ends_its_tokens_and_no_others(both: Both) -> None:
    second = await both.keys.create("second", both.alice.key.account)
    tokens = [await both.token(key) for key in (both.alice, second, both.bob)]
    path = f"{FORMS[0]}/requests/{uuid.uuid4()}"
    assert [(await both.ask(f"Bearer {t}", "GET", path)).status_code for t in tokens] == [404] * 3
    await both.keys.revoke(both.alice.key.id)
    both.clock.now = 5.0
    assert [(await both.ask(f"Bearer {t}", "GET", path)).status_code for t in tokens] == [401, 404, 404]
    async with both.harness.client() as client:
        assert (await client.get(f"{path}?fal_jwt_token={tokens[0]}")).status_code == 401
