"""Authentication by key and token, and the separation of accounts."""

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
from serve_app.api.middleware.auth import (
    MALFORMED,
    MISSING,
    PUBLIC_PATHS,
    UNKNOWN_KEY,
    WRONG_PATH,
    Authentication,
)
from serve_app.files.signing import Purpose
from tests.api.harness import INPUT, SIGNER, SUBMIT, ApiHarness
from tests.jobs.steps import newest

BODY = {"video_url": "http://host.example/v.mp4"}
REQUEST = "/queue/fal-ai/birefnet/requests/{request_id}"
UNKNOWN_ID = str(uuid.uuid4())


@dataclass
class AuthHarness:
    """An application that requires keys, and a client for it."""

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
async def auth(harness: ApiHarness) -> AsyncIterator[AuthHarness]:
    keys = KeyTable(str(harness.store._database.writer.url.set(drivername="sqlite")))
    verifier = Verifier(keys, 5.0)
    # Innermost: request ids and virtual hosts are applied before it.
    harness.app.user_middleware.append(Middleware(Authentication, verifier=verifier, signer=SIGNER))
    async with harness.client() as client:
        yield AuthHarness(harness, keys, client)
    await keys.close()


@pytest.mark.parametrize("form", ["Key {}", "key {}", "KEY   {}", "  Key {}  ", "Bearer {}", "bearer {} "])
async def test_every_form_of_a_valid_key_is_accepted(auth: AuthHarness, form: str) -> None:
    key = await auth.keys.create("laptop")
    reply = await auth.ask(form.format(key.text), SUBMIT, "POST", json=BODY)
    assert reply.status_code == 200
    job = await auth.harness.store.get(reply.json()["request_id"])
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
async def test_malformed_headers(auth: AuthHarness, header: str) -> None:
    reply = await auth.ask(header, REQUEST.format(request_id=UNKNOWN_ID))
    assert (reply.status_code, reply.json()) == (401, {"detail": MALFORMED})


async def test_wrong_missing_and_revoked_keys(auth: AuthHarness) -> None:
    key, other = await auth.keys.create("laptop"), await auth.keys.create("other")
    path = REQUEST.format(request_id=UNKNOWN_ID)
    for wrong in (
        f"{UNKNOWN_ID}:{key.secret}",
        f"{key.key.id}:{other.secret}",
        f"{key.text}x",
        f"{key.text}:",
        "ä:ö",
    ):
        reply = await auth.client.get(path, headers={b"Authorization": f"Key {wrong}".encode()})
        assert (reply.status_code, reply.json()) == (401, {"detail": UNKNOWN_KEY})
        assert reply.headers["www-authenticate"] == "Key"
    reply = await auth.ask(None, path)
    assert (reply.status_code, reply.json()) == (401, {"detail": MISSING})
    await auth.keys.revoke(other.key.id)
    reply = await auth.ask(f"Key {other.text}", path)
    assert (reply.status_code, reply.json()) == (401, {"detail": UNKNOWN_KEY})


async def test_messages_match_the_vendors() -> None:
    assert UNKNOWN_KEY == "No user found for Key ID and Secret"
    assert MALFORMED.startswith("Invalid Key Authorization header format")


async def test_every_route_but_the_public_ones_requires_a_key(auth: AuthHarness) -> None:
    asked = 0
    for path, methods in auth.harness.app.openapi()["paths"].items():
        for method in methods:
            reply = await auth.ask(None, path.replace("{request_id}", UNKNOWN_ID), method.upper())
            assert (reply.status_code == 401) == (path not in PUBLIC_PATHS), f"{method} {path}"
            asked += 1
    assert asked > 10
    extra_slash = f"{auth.client.base_url}//health"  # without a host, its first segment would be one
    closed = (
        "/no-such",
        "/health/",
        extra_slash,
        "/queue/health",
        "/docs/x",
        "/playground/",
        "/playground/x.js",
    )
    for path in closed:
        assert (await auth.ask(None, path)).status_code == 401
    for path in ("/openapi.json", "/docs", "/"):
        assert (await auth.ask(None, path)).status_code == 200
    assert (await auth.ask(None, SUBMIT, "OPTIONS")).status_code != 401
    assert await newest(auth.harness.store, 1) == []


async def test_a_virtual_host_does_not_bypass_authentication(auth: AuthHarness) -> None:
    reply = await auth.ask(
        None, "/fal-ai/birefnet/v2/video", "POST", json=BODY, headers={"Host": "queue.fal.example"}
    )
    assert reply.status_code == 401


async def test_accounts_see_nothing_of_each_other(auth: AuthHarness) -> None:
    """On every route, another account's job gets the same reply as an unknown one."""
    alice, bob = await auth.keys.create("alice"), await auth.keys.create("bob")
    job = await auth.submit(alice)
    document = auth.harness.app.openapi()["paths"]
    routes = [
        (m.upper(), path) for path, methods in document.items() for m in methods if "{request_id}" in path
    ]
    assert len(routes) >= 10
    for method, path in routes:
        for query in ("", "?logs=1"):
            foreign = await auth.ask(f"Key {bob.text}", path.format(request_id=job) + query, method)
            unknown = await auth.ask(f"Key {bob.text}", path.format(request_id=UNKNOWN_ID) + query, method)
            assert foreign.status_code == unknown.status_code == 404, f"{method} {path}"
            assert foreign.content == unknown.content
            assert foreign.headers["x-fal-request-id"] != job
    own = await auth.ask(f"Key {alice.text}", REQUEST.format(request_id=job) + "/status")
    assert own.status_code == 202 and own.json()["status"] == "IN_QUEUE"


async def test_keys_of_one_account_see_the_same_jobs(auth: AuthHarness) -> None:
    one = await auth.keys.create("one")
    two = await auth.keys.create("two", one.key.account)
    job = await auth.submit(one)
    assert (await auth.ask(f"Key {two.text}", REQUEST.format(request_id=job) + "/status")).status_code == 202


async def test_idempotency_keys_are_separate_for_each_account(auth: AuthHarness) -> None:
    alice, bob = await auth.keys.create("alice"), await auth.keys.create("bob")
    same = {"Idempotency-Key": "same"}
    first = await auth.submit(alice, headers=same)
    assert await auth.submit(bob, headers=same) != first
    assert await auth.submit(alice, headers=same) == first


async def test_a_token_is_valid_only_for_its_applications(auth: AuthHarness) -> None:
    alice = await auth.keys.create("alice")
    job = await auth.submit(alice)
    status = REQUEST.format(request_id=job) + "/status"

    def token(purpose: Purpose = Purpose.APP, lifetime_s: float = 60.0, **claims: Any) -> str:
        return SIGNER.token(
            purpose,
            {"account": alice.key.account, "key": alice.key.id, "apps": ["birefnet"], **claims},
            lifetime_s,
        )

    for good in (token(), token(apps=["fal-ai/birefnet"])):
        assert (await auth.ask(f"Bearer {good}", status)).status_code == 202
        assert (await auth.ask(None, f"{status}?fal_jwt_token={good}")).status_code == 202
    for bad in (token(apps=["other"]), token(account=None)):
        reply = await auth.ask(f"Bearer {bad}", status)
        assert (reply.status_code, reply.json()) == (401, {"detail": WRONG_PATH})
    of_an_earlier_version = SIGNER.token(
        Purpose.APP, {"account": alice.key.account, "apps": ["birefnet"]}, 60.0
    )
    for bad in (
        of_an_earlier_version,
        token(Purpose.UPLOADS),
        token(lifetime_s=-1.0),
        token()[:-1],
        "x",
        ".",
    ):
        assert (await auth.ask(f"Bearer {bad}", status)).status_code == 401
    for path in ("/tokens/", "/storage/auth/token", "/rest/tokens/"):
        assert (await auth.ask(f"Bearer {token()}", path, "POST")).json() == {"detail": WRONG_PATH}
    assert (await auth.ask(f"Key {token()}", status)).json() == {"detail": MALFORMED}


async def test_without_authentication_the_header_is_ignored(harness: ApiHarness) -> None:
    async with harness.client(headers={"Authorization": "Key no:body"}) as client:
        job_id = (await client.post(SUBMIT, json=BODY)).json()["request_id"]
    job = await harness.store.get(job_id)
    assert job is not None and job.account is None
