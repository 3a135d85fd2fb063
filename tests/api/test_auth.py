"""Keys at the proxy: who gets in, and that accounts see nothing of each other."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.middleware import Middleware

from serve_app.accounts.keys import KeyTable, NewKey
from serve_app.accounts.verifier import Verifier
from serve_app.api.middleware.auth import FOREIGN, MALFORMED, MISSING, OPEN, WRONG, Authentication
from serve_app.files.signing import Purpose
from tests.api.harness import INPUT, SIGNER, SUBMIT, ApiHarness
from tests.jobs.steps import newest

BODY = {"video_url": "http://host.example/v.mp4"}
REQUEST = "/queue/fal-ai/birefnet/requests/{request_id}"
NOBODY = str(uuid.uuid4())


@dataclass
class Door:
    """An application with keys, and clients that hold some."""

    harness: ApiHarness
    keys: KeyTable
    client: httpx.AsyncClient

    async def ask(
        self, authorization: str | None, path: str, method: str = "GET", **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": authorization} if authorization is not None else {}
        headers |= more.pop("headers", {})
        reply = await self.client.request(method, path, headers=headers, **more)
        assert len(reply.headers["x-fal-request-id"]) == 36
        return reply

    async def submit(self, key: NewKey, **more: Any) -> str:
        reply = await self.ask(f"Key {key.text}", SUBMIT, "POST", json=INPUT, **more)
        assert reply.status_code == 200
        return str(reply.json()["request_id"])


@pytest_asyncio.fixture
async def proxy(harness: ApiHarness) -> AsyncIterator[Door]:
    keys = KeyTable(str(harness.store._database.writer.url.set(drivername="sqlite")))
    verifier = Verifier(keys, 5.0)
    # Innermost: request ids and virtual hosts come before it.
    harness.app.user_middleware.append(Middleware(Authentication, verifier=verifier, signer=SIGNER))
    async with harness.client() as client:
        yield Door(harness, keys, client)
    await keys.close()


@pytest.mark.parametrize("form", ["Key {}", "key {}", "KEY   {}", "  Key {}  ", "Bearer {}", "bearer {} "])
async def test_every_form_of_a_valid_key_gets_in(proxy: Door, form: str) -> None:
    key = await proxy.keys.create("laptop")
    reply = await proxy.ask(form.format(key.text), SUBMIT, "POST", json=BODY)
    assert reply.status_code == 200
    job = await proxy.harness.store.get(reply.json()["request_id"])
    assert job is not None and job.account == key.key.account


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Key",
        "Key ",
        "Key token",
        "Key :",
        "Key id:",
        "Key :secret",
        "Basic aWQ6c2VjcmV0",
        "id:secret",
        "Keyid:secret",
    ],
)
async def test_malformed_headers(proxy: Door, header: str) -> None:
    reply = await proxy.ask(header, REQUEST.format(request_id=NOBODY))
    assert (reply.status_code, reply.json()) == (401, {"detail": MALFORMED})


async def test_wrong_missing_and_revoked_keys(proxy: Door) -> None:
    key, other = await proxy.keys.create("laptop"), await proxy.keys.create("other")
    path = REQUEST.format(request_id=NOBODY)
    for wrong in (
        f"{NOBODY}:{key.secret}",
        f"{key.key.id}:{other.secret}",
        f"{key.text}x",
        f"{key.text}:",
        "ä:ö",
    ):
        reply = await proxy.client.get(path, headers={b"Authorization": f"Key {wrong}".encode()})
        assert (reply.status_code, reply.json()) == (401, {"detail": WRONG})
        assert reply.headers["www-authenticate"] == "Key"
    reply = await proxy.ask(None, path)
    assert (reply.status_code, reply.json()) == (401, {"detail": MISSING})
    await proxy.keys.revoke(other.key.id)
    reply = await proxy.ask(f"Key {other.text}", path)
    assert (reply.status_code, reply.json()) == (401, {"detail": WRONG})


async def test_the_vendors_words() -> None:
    assert WRONG == "No user found for Key ID and Secret"
    assert MALFORMED.startswith("Invalid Key Authorization header format")


async def test_every_route_but_the_open_ones_wants_a_key(proxy: Door) -> None:
    asked = 0
    for path, methods in proxy.harness.app.openapi()["paths"].items():
        for method in methods:
            reply = await proxy.ask(None, path.replace("{request_id}", NOBODY), method.upper())
            assert (reply.status_code == 401) == (path not in OPEN), f"{method} {path}"
            asked += 1
    assert asked > 10
    for path in ("/no-such", "/health/", "//health", "/queue/health", "/docs/x", "/"):
        assert (await proxy.ask(None, path)).status_code == 401
    for path in ("/openapi.json", "/docs"):
        assert (await proxy.ask(None, path)).status_code == 200
    assert (await proxy.ask(None, SUBMIT, "OPTIONS")).status_code != 401
    assert await newest(proxy.harness.store, 1) == []


async def test_a_virtual_host_is_no_way_around(proxy: Door) -> None:
    reply = await proxy.ask(
        None, "/fal-ai/birefnet/v2/video", "POST", json=BODY, headers={"Host": "queue.fal.example"}
    )
    assert reply.status_code == 401


async def test_accounts_see_nothing_of_each_other(proxy: Door) -> None:
    """Every route and form of id: the reply about another's job is the one about a job that does not exist."""
    alice, bob = await proxy.keys.create("alice"), await proxy.keys.create("bob")
    job = await proxy.submit(alice)
    document = proxy.harness.app.openapi()["paths"]
    routes = [
        (m.upper(), path) for path, methods in document.items() for m in methods if "{request_id}" in path
    ]
    assert len(routes) >= 10
    for method, path in routes:
        for query in ("", "?logs=1"):
            theirs = await proxy.ask(f"Key {bob.text}", path.format(request_id=job) + query, method)
            nobodys = await proxy.ask(f"Key {bob.text}", path.format(request_id=NOBODY) + query, method)
            assert theirs.status_code == nobodys.status_code == 404, f"{method} {path}"
            assert theirs.content == nobodys.content
            assert theirs.headers["x-fal-request-id"] != job
    mine = await proxy.ask(f"Key {alice.text}", REQUEST.format(request_id=job) + "/status")
    assert mine.status_code == 202 and mine.json()["status"] == "IN_QUEUE"


async def test_keys_of_one_account_see_the_same_jobs(proxy: Door) -> None:
    one = await proxy.keys.create("one")
    two = await proxy.keys.create("two", one.key.account)
    job = await proxy.submit(one)
    assert (await proxy.ask(f"Key {two.text}", REQUEST.format(request_id=job) + "/status")).status_code == 202


async def test_an_idempotency_key_is_an_accounts_own(proxy: Door) -> None:
    alice, bob = await proxy.keys.create("alice"), await proxy.keys.create("bob")
    same = {"Idempotency-Key": "same"}
    first = await proxy.submit(alice, headers=same)
    assert await proxy.submit(bob, headers=same) != first
    assert await proxy.submit(alice, headers=same) == first


async def test_a_token_stands_for_its_account_before_its_applications_alone(proxy: Door) -> None:
    alice = await proxy.keys.create("alice")
    job = await proxy.submit(alice)
    status = REQUEST.format(request_id=job) + "/status"

    def token(purpose: Purpose = Purpose.APP, lifetime_s: float = 60.0, **claims: Any) -> str:
        return SIGNER.token(
            purpose, {"account": alice.key.account, "apps": ["birefnet"], **claims}, lifetime_s
        )

    for good in (token(), token(apps=["fal-ai/birefnet"])):
        assert (await proxy.ask(f"Bearer {good}", status)).status_code == 202
        assert (await proxy.ask(None, f"{status}?fal_jwt_token={good}")).status_code == 202
    for bad in (token(apps=["other"]), token(account=None)):
        reply = await proxy.ask(f"Bearer {bad}", status)
        assert (reply.status_code, reply.json()) == (401, {"detail": FOREIGN})
    for bad in (token(Purpose.UPLOADS), token(lifetime_s=-1.0), token()[:-1], "x", "."):
        assert (await proxy.ask(f"Bearer {bad}", status)).status_code == 401
    for path in ("/tokens/", "/storage/auth/token", "/rest/tokens/"):
        assert (await proxy.ask(f"Bearer {token()}", path, "POST")).json() == {"detail": FOREIGN}
    assert (await proxy.ask(f"Key {token()}", status)).json() == {"detail": MALFORMED}


async def test_without_the_door_a_header_means_nothing(harness: ApiHarness) -> None:
    async with harness.client(headers={"Authorization": "Key no:body"}) as client:
        job_id = (await client.post(SUBMIT, json=BODY)).json()["request_id"]
    job = await harness.store.get(job_id)
    assert job is not None and job.account is None
