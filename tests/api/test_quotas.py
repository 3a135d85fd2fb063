"""Quotas over HTTP: 429 in the contract's shape, and nothing of another account waits or fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.quotas import Quotas
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import IngressSettings, Quota, QuotaSettings
from tests.api.harness import INPUT, SUBMIT, ApiHarness
from tests.waiting import until

BODY_BYTES = 1_000_000


def limited(store: SqlJobStore, artifacts: Artifacts, **quota: int) -> ApiHarness:
    return ApiHarness(store, artifacts, quotas=Quotas(QuotaSettings(overall=Quota(**quota))))


async def test_bodies_beyond_the_budget_are_refused_at_their_headers(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    """Two hundred bodies whose sum is far beyond the budget: those that fit stay, the rest get 429 unread."""
    quotas = Quotas(QuotaSettings(overall=Quota(body_bytes=10 * BODY_BYTES)))
    harness = ApiHarness(store, artifacts, quotas=quotas)
    more, sent = asyncio.Event(), 0

    async def slow() -> AsyncIterator[bytes]:
        nonlocal sent
        sent += 1
        await more.wait()
        yield b"{}".ljust(BODY_BYTES)

    headers = {"Content-Length": str(BODY_BYTES)}
    async with harness.client() as client:
        posts = [
            asyncio.create_task(client.post(SUBMIT, content=slow(), headers=headers)) for _ in range(200)
        ]
        await until(lambda: sum(post.done() for post in posts) == 190)
        assert quotas._all.held.body_bytes == 10 * BODY_BYTES and sent <= 10
        assert (await client.get("/health")).status_code == 200
        more.set()
        replies = await asyncio.gather(*posts)
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) == 190 and [r.status_code for r in replies].count(200) == 10
    assert refused[0].json()["type"] == "concurrent_requests_limit"
    assert refused[0].headers["x-fal-needs-retry"] == "1"
    assert quotas._all.held.body_bytes == 0


async def test_a_body_without_a_length_is_counted_as_it_arrives(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    harness = limited(store, artifacts, body_bytes=BODY_BYTES)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)

    async with harness.client() as client:
        assert (await client.post(SUBMIT, content=endless())).status_code == 429


async def test_a_body_that_never_ends_is_refused(store: SqlJobStore, artifacts: Artifacts) -> None:
    harness = ApiHarness(store, artifacts, limits=IngressSettings(body_s=0.05))

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with harness.client() as client:
        reply = await client.post(SUBMIT, content=never())
    assert (reply.status_code, reply.json()["error_type"]) == (408, "body_too_slow")


async def test_jobs_beyond_the_quota_are_refused_on_both_ways(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    harness = limited(store, artifacts, queued=1)
    async with harness.client() as client:
        assert (await client.post(SUBMIT, json=INPUT)).status_code == 200
        for path in (SUBMIT, "/fal-ai/birefnet/v2/video"):
            reply = await client.post(path, json=INPUT)
            assert (reply.status_code, reply.json()["type"]) == (429, "concurrent_requests_limit")
    assert await store.waiting() == 1


async def test_a_stream_beyond_the_quota_is_refused_before_its_first_event(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    quotas = Quotas(QuotaSettings(account=Quota(streams=1)))
    harness = ApiHarness(store, artifacts, quotas=quotas)
    async with harness.client() as client:
        url = (await client.post(SUBMIT, json=INPUT)).json()["status_url"] + "/stream"
        with quotas.stream(None):
            reply = await client.get(url)
            assert (reply.status_code, reply.json()["type"]) == (429, "concurrent_requests_limit")
        async with harness.runner():
            harness.notifier.wake()
            assert (await client.get(url)).status_code == 200
    assert quotas._all.held.streams == 0


async def test_one_keys_load_leaves_the_other_its_rate(store: SqlJobStore, artifacts: Artifacts) -> None:
    """Alice floods; every request of Bob among hers is answered as if she were not there."""
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    quotas = QuotaSettings(account=Quota(requests_per_s=0.001, burst=20, queued=5))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0), quotas=Quotas(quotas))
    alice, bob = await keys.create("alice"), await keys.create("bob")
    async with harness.client() as client:

        async def submit(text: str) -> int:
            headers = {"Authorization": f"Key {text}"}
            return (await client.post(SUBMIT, json=INPUT, headers=headers)).status_code

        flood = asyncio.gather(*(submit(alice.text) for _ in range(60)))
        own = [await submit(bob.text) for _ in range(5)]
        hers = await flood
        assert (await client.get("/health")).status_code == 200
    await keys.close()
    assert own == [200] * 5
    assert (hers.count(200), hers.count(429)) == (5, 55)
