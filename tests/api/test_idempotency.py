"""Idempotency keys: replays, races, clients that return, and keys reused with another input."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_app.errors import DownloadFailed, to_wire
from serve_app.jobs.model import Claim, JobState
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import INPUT, PATH, SUBMIT, ApiHarness, only_job
from tests.jobs.steps import newest
from tests.waiting import until

KEY = {"Idempotency-Key": "once"}


async def test_a_repeated_submit(harness: ApiHarness) -> None:
    async with harness.client() as client:
        first = await client.post(SUBMIT, json=INPUT, headers=KEY)
        again = await client.post(SUBMIT, json=INPUT | {"unknown": 1}, headers=KEY)
        assert again.status_code == 200 and again.json() == first.json()
        assert again.headers["x-fal-request-id"] == first.json()["request_id"]
        async with harness.runner() as claims:
            result = await client.post(PATH, json=INPUT, headers=KEY)
        assert result.status_code == 200 and len(claims) == 1
        assert result.headers["x-fal-request-id"] == first.json()["request_id"]
        late = await client.post(SUBMIT, json=INPUT, headers=KEY)
        assert late.json() == first.json()
    await only_job(harness.store)


async def test_a_repeated_submit_is_not_queued_again(harness: ApiHarness) -> None:
    """It passes the limit of the queue's length, since its job is in the queue already."""
    limited = f"{SUBMIT}?fal_max_queue_length=0"
    async with harness.client() as client:
        first = await client.post(limited, json=INPUT, headers=KEY)
        assert (await client.post(limited, json=INPUT)).status_code == 429
        again = await client.post(limited, json=INPUT, headers=KEY)
    assert again.status_code == 200 and again.json() == first.json()


async def test_without_a_key_two_requests_are_two_jobs(harness: ApiHarness) -> None:
    async with harness.client() as client:
        ids = {(await client.post(SUBMIT, json=INPUT)).json()["request_id"] for _ in range(2)}
    assert len(ids) == len(await newest(harness.store, 10)) == 2


async def test_concurrent_requests_with_one_key_share_a_job(harness: ApiHarness) -> None:
    async with harness.runner() as claims, harness.client() as client:
        submits = [client.post(SUBMIT, json=INPUT, headers=KEY) for _ in range(10)]
        runs = [client.post(PATH, json=INPUT, headers=KEY) for _ in range(10)]
        replies = await asyncio.gather(*submits, *runs)
    assert [reply.status_code for reply in replies] == [200] * 20
    assert len({reply.headers["x-fal-request-id"] for reply in replies}) == 1
    assert len({reply.json()["video"]["url"] for reply in replies[10:]}) == 1
    assert len(claims) == 1


@pytest.mark.parametrize("path", [PATH, SUBMIT])
async def test_a_key_reused_with_another_input(harness: ApiHarness, path: str) -> None:
    async with harness.client() as client:
        await client.post(SUBMIT, json=INPUT, headers=KEY)
        reply = await client.post(path, json=INPUT | {"model": "Matting"}, headers=KEY)
    assert reply.status_code == 422 and "Idempotency-Key" in reply.json()["detail"]
    assert reply.json()["error_type"] == reply.headers["x-fal-error-type"] == "idempotency_key_reused"
    assert (await only_job(harness.store)).state is JobState.QUEUED and harness.notifier.cancelled == []


async def test_a_failure_is_replayed(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.fail(claim.lease, to_wire(DownloadFailed("the server answered 404")))

    async with harness.runner(work) as claims, harness.client() as client:
        replies = [await client.post(PATH, json=INPUT, headers=KEY) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [422, 422] and len(claims) == 1
    assert replies[0].json() == replies[1].json()


async def test_a_cancellation_is_replayed(harness: ApiHarness) -> None:
    async with harness.client() as client:
        submit = (await client.post(SUBMIT, json=INPUT, headers=KEY)).json()
        await client.put(submit["cancel_url"])
        reply = await client.post(PATH, json=INPUT, headers=KEY)
    assert (reply.status_code, reply.json()["error_type"]) == (499, "client_cancelled")


async def test_an_invalid_input_is_replayed(harness: ApiHarness) -> None:
    async with harness.client() as client:
        ids = {(await client.post(SUBMIT, content=b"{", headers=KEY)).json()["request_id"] for _ in range(2)}
        other = await client.post(SUBMIT, content=b"[", headers=KEY)
    assert len(ids) == 1 and other.status_code == 422


async def test_a_client_with_a_key_may_return(harness: ApiHarness) -> None:
    """The JS client repeats a request whose connection broke: the job continues, and the repeat gets its result."""
    async with harness.client() as client:
        first = asyncio.create_task(client.post(PATH, json=INPUT, headers=KEY))
        await harness.notifier.woken.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await only_job(harness.store)).state is JobState.QUEUED and harness.notifier.cancelled == []
        async with harness.runner():
            reply = await client.post(PATH, json=INPUT, headers=KEY)
    assert reply.status_code == 200
    assert reply.headers["x-fal-request-id"] == (await only_job(harness.store)).id


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_disconnecting_at_any_step_keeps_a_job_with_a_key(harness: ApiHarness, steps: int) -> None:
    async with harness.client() as client:
        task = asyncio.create_task(client.post(PATH, json=INPUT, headers=KEY))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with harness.runner():
            harness.notifier.wake()
            assert (await client.post(PATH, json=INPUT, headers=KEY)).status_code == 200


async def await_waiting(harness: ApiHarness, number: int) -> None:
    async def enough() -> bool:
        return await harness.store.waiting() == number

    await until(enough)


@pytest.mark.parametrize("path", [PATH, SUBMIT])
async def test_a_queue_longer_than_the_client_accepts(harness: ApiHarness, path: str) -> None:
    async with harness.client() as client:

        async def ask(limit: int) -> Any:
            return await client.post(f"{path}?fal_max_queue_length={limit}", json=INPUT)

        await client.post(SUBMIT, json=INPUT)
        reply = await ask(0)
        assert (reply.status_code, reply.json()["type"]) == (429, "concurrent_requests_limit")
        assert reply.headers["x-fal-needs-retry"] == "1" and "fal_max_queue_length" in reply.json()["detail"]
        asking = asyncio.create_task(ask(1))
        await await_waiting(harness, 2)
        async with harness.runner():
            harness.notifier.wake()
            assert (await asking).status_code == 200
