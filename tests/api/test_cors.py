"""CORS: what pages of other origins may send, and that they can read every reply."""

from __future__ import annotations

import httpx
import pytest

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.fal import CLIENT_PROXY
from serve_app.jobs.model import Claim
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import INPUT, PATH, SUBMIT, ApiHarness

ORIGIN = {"Origin": "https://page.example"}


def values(reply: httpx.Response, header: str) -> set[str]:
    return {value.strip().lower() for value in reply.headers[header].split(",")}


def check_open(reply: httpx.Response) -> None:
    assert reply.headers.get_list("access-control-allow-origin") == ["*"]
    assert "access-control-allow-credentials" not in reply.headers
    exposed = values(reply, "access-control-expose-headers")
    assert exposed >= {"x-fal-request-id", "x-fal-error-type", "x-fal-request-timeout-type"}
    assert exposed >= {"x-fal-retryable", "x-fal-needs-retry", "x-fal-billable-units", "retry-after"}


@pytest.mark.parametrize("path", [PATH, SUBMIT, CLIENT_PROXY, "/storage/upload/initiate", "/no/such/path"])
@pytest.mark.parametrize("host", ["service.example", "queue.fal.run"])
async def test_preflight(store: SqlJobStore, artifacts: Artifacts, path: str, host: str) -> None:
    """Without a key although keys are required: browsers send none with a preflight."""
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0))
    asked = "authorization,content-type,x-fal-queue-priority,x-fal-request-timeout,x-fal-target-url"
    headers = ORIGIN | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
        "Host": host,
    }
    async with harness.client() as client:
        reply = await client.options(path, headers=headers)
    await keys.close()
    assert (reply.status_code, reply.content) == (204, b"")
    assert "content-type" not in reply.headers
    assert reply.headers.get_list("access-control-allow-origin") == ["*"]
    assert values(reply, "access-control-allow-methods") == {"get", "post", "put", "delete"}
    allowed = values(reply, "access-control-allow-headers")
    assert allowed >= set(asked.split(",")) and "*" not in allowed
    assert {"idempotency-key", "x-app-fal-disable-fallback", "x-fal-store-io"} <= allowed


async def test_every_documented_header_is_allowed(harness: ApiHarness) -> None:
    async with harness.client() as client:
        allowed = values(await client.options(PATH), "access-control-allow-headers")
        document = (await client.get("/openapi.json")).json()
    named = {
        parameter["name"].lower()
        for path in document["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert "x-fal-runner-hint" in named and named <= allowed


async def test_pages_can_read_the_headers_of_replies(harness: ApiHarness) -> None:
    """The names are the vendor's: a page reads only what is exposed."""
    async with harness.client(headers=ORIGIN) as client:
        reply = await client.get("/health")
    assert values(reply, "access-control-expose-headers") == {
        "x-fal-request-id",
        "x-fal-error-type",
        "x-fal-request-timeout-type",
        "x-fal-retryable",
        "x-fal-needs-retry",
        "x-fal-billable-units",
        "x-fal-served-from",
        "x-fal-runner-hints",
        "x-fal-cdn-token",
        "retry-after",
    }


async def test_replies_can_be_read(harness: ApiHarness) -> None:
    async with harness.client(headers=ORIGIN) as client:
        submit = await client.post(SUBMIT, json=INPUT)
        url = submit.json()["response_url"]
        async with harness.runner():
            harness.notifier.wake()
            stream = await client.get(url + "/status/stream")
        replies = [submit, stream, await client.get(url), await client.get("/openapi.json")]
    assert [reply.status_code for reply in replies] == [200] * 4
    assert stream.headers["content-type"].startswith("text/event-stream")
    for reply in replies:
        check_open(reply)


async def test_errors_can_be_read(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.complete(claim.lease, {"not": "a result"})

    async with harness.runner(work), harness.client(headers=ORIGIN) as client:
        replies = {
            404: await client.get("/no/such/path"),
            405: await client.get(PATH),
            422: await client.post(PATH, json={}),
            400: await client.post(CLIENT_PROXY),
            500: await client.post(PATH, json=INPUT),
        }
    for status, reply in replies.items():
        assert reply.status_code == status
        check_open(reply)


async def test_unauthorized_replies_can_be_read(store: SqlJobStore, artifacts: Artifacts) -> None:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    async with ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0)).client(headers=ORIGIN) as client:
        reply = await client.post(SUBMIT, json=INPUT)
    await keys.close()
    assert reply.status_code == 401
    check_open(reply)
