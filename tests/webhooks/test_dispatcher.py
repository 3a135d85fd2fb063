"""The dispatcher over a real outbox and real sockets: what arrives, what is tried again, and what is not."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.routes.jwks import jwks_router
from serve_app.errors import DownloadFailed, to_wire
from serve_app.fal import JWKS_PATHS
from serve_app.settings import WebhookSettings
from serve_app.webhooks import outbox
from serve_app.webhooks.dispatcher import delay
from serve_app.webhooks.signing_keys import KeyFile
from tests.webhooks.harness import WebhookHarness
from tests.webhooks.receiver import (
    Received,
    die,
    die_in_the_headers,
    genuine,
    hang,
    receiver,
    status,
    talk_for_ever,
)


async def published(keys: KeyFile, path: str = JWKS_PATHS[0]) -> Any:
    app = FastAPI()
    app.include_router(jwks_router(keys))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://rest.example"
    ) as client:
        reply = await client.get(path)
    assert reply.status_code == 200
    return reply.json()


async def test_a_finished_job_is_told_once_and_provably(harness: WebhookHarness) -> None:
    async with receiver() as there:
        await harness.completed("one", there.url + "/hook?key=a%20b", account="alice", mask=True)
        harness.dispatcher()
        row = await harness.settled("one")
    (message,) = there.received
    assert message.path == "/hook?key=a%20b" and message.headers["content-type"] == "application/json"
    assert message.json.keys() == {"request_id", "gateway_request_id", "status", "payload"}
    assert message.json["request_id"] == message.json["gateway_request_id"] == "one"
    assert message.json["status"] == "OK"
    assert (
        message.json["payload"]["video"]["url"]
        == "https://service.example:8001/files/outputs/one/1/output.mp4"
    )
    assert message.json["payload"]["mask_video"]["file_name"] == "mask.mp4"
    assert message.headers["x-fal-webhook-request-id"] == "one"
    assert message.headers["x-fal-webhook-user-id"] == "alice"
    for path in JWKS_PATHS:
        assert genuine(message, await published(harness.keys, path), time.time())
    assert (row.attempts, row.last_error, row.owner) == (1, None, None)
    (line,) = await harness.told("one")
    assert (line.level, line.message) == ("INFO", "webhook attempt 1: the receiver answered 200")


async def test_the_check_of_these_tests_refuses_what_is_not_genuine(harness: WebhookHarness) -> None:
    async with receiver() as there:
        await harness.completed("one", there.url)
        harness.dispatcher()
        (message,) = await there.got(1)
    jwks, now = harness.keys.ring().published(time.time()), time.time()
    assert genuine(message, jwks, now)
    assert not genuine(message, jwks, now + 400)
    assert not genuine(Received("/", message.headers, message.body + b" "), jwks, now)
    other = message.headers | {"x-fal-webhook-user-id": "mallory"}
    assert not genuine(Received("/", other, message.body), jwks, now)
    assert not genuine(message, KeyFile(harness.keys.path.with_name("other")).ring().published(now), now)


async def test_failed_and_cancelled_jobs_are_told_with_their_reply(harness: WebhookHarness) -> None:
    error = to_wire(DownloadFailed("gone"))
    async with receiver() as there:
        await harness.failed("failed", there.url, error)
        await harness.claimed("cancelled", there.url)
        await harness.store.request_cancel("cancelled")
        harness.dispatcher()
        told = {message.json["request_id"]: message for message in await there.got(2)}
    failed, cancelled = told["failed"], told["cancelled"]
    assert failed.json["status"] == "ERROR" and failed.json["payload"] == error.body
    assert failed.json["error"] == "Invalid status code: 422"
    assert cancelled.json["error"] == "Invalid status code: 499"
    assert cancelled.json["payload"]["error_type"] == "client_cancelled"
    assert failed.headers["x-fal-webhook-user-id"] == harness.keys.ring().installation


async def test_an_attempt_that_fails_is_followed_by_another_signed_anew(harness: WebhookHarness) -> None:
    async with receiver(status(500), die, die_in_the_headers, hang, status(404)) as there:
        await harness.completed("one", there.url)
        harness.dispatcher(retry_limit_s=1.0)
        row = await harness.settled("one")
    assert row.attempts == len(there.received) == 6 and row.last_error is None
    jwks = await published(harness.keys)
    assert all(genuine(message, jwks, time.time()) for message in there.received)
    assert len({message.body for message in there.received}) == 1
    lines = await harness.told("one")
    assert [line.level for line in lines] == ["WARN"] * 5 + ["INFO"]
    assert "answered 500; next attempt in 0 s" in lines[0].message
    assert "connection failed" in lines[1].message and "connection failed" in lines[2].message
    assert "did not answer within 1 s" in lines[3].message
    assert there.url not in "".join(line.message for line in lines)


async def test_the_next_attempt_waits(harness: WebhookHarness) -> None:
    async with receiver(status(503)) as there:
        await harness.completed("one", there.url)
        dispatcher = harness.dispatcher(first_delay_s=3600.0)
        await there.got(1)
        async with asyncio.timeout(10):
            while not await harness.told("one"):  # noqa: ASYNC110 (a table has no event)
                await asyncio.sleep(0.01)
        await dispatcher.stop()
        row = await harness.row("one")
    assert not row.done and row.next_at > time.time() + 3000
    assert row.last_error == "the receiver answered 503"
    assert await harness.outbox().due() == []


async def test_a_redirect_is_not_followed_and_is_the_end(harness: WebhookHarness) -> None:
    async with receiver() as elsewhere, receiver(status(302, f"Location: {elsewhere.url}/")) as there:
        await harness.completed("one", there.url)
        harness.dispatcher()
        row = await harness.settled("one")
        assert len(there.received) == 1 and elsewhere.received == []
    assert row.last_error == "the receiver answered 302, and webhooks follow no redirects"
    (line,) = await harness.told("one")
    assert line.level == "WARN" and line.message.endswith("no further attempts")


async def test_private_receivers_are_told_nothing_unless_allowed(harness: WebhookHarness) -> None:
    async with receiver() as there:
        await harness.completed("one", there.url)
        await harness.completed("two", there.url.replace("127.0.0.1", "localhost"))
        harness.dispatcher(allow_private=False)
        for job_id in ("one", "two"):
            row = await harness.settled(job_id)
            assert "not on the public internet" in row.last_error
        assert there.received == []


async def test_nobody_there_and_no_such_host(harness: WebhookHarness) -> None:
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        await harness.completed("nobody", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        await harness.completed("nowhere", "http://nowhere.invalid/")
        harness.dispatcher(max_retries=1)
        nobody, nowhere = await harness.settled("nobody"), await harness.settled("nowhere")
    assert nobody.attempts == nowhere.attempts == 2
    assert "no connection to the receiver" in nobody.last_error
    assert nowhere.last_error == "the receiver's host name cannot be resolved"


async def test_retries_end(harness: WebhookHarness) -> None:
    async with receiver(always=status(500)) as there:
        await harness.completed("one", there.url)
        harness.dispatcher(max_retries=3)
        row = await harness.settled("one")
        assert row.attempts == len(there.received) == 4


async def test_nothing_is_told_of_a_result_that_has_expired(harness: WebhookHarness) -> None:
    async with receiver() as there:
        await harness.completed("one", there.url)
        await harness.store.files_deleted(["one"])
        harness.dispatcher()
        assert (await harness.settled("one")).last_error == "the result has expired"
        assert there.received == []


async def test_an_answer_is_not_read_beyond_its_status(harness: WebhookHarness) -> None:
    async with receiver(talk_for_ever) as there:
        await harness.completed("one", there.url)
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 1


async def test_a_restart_between_end_and_delivery_loses_nothing(harness: WebhookHarness) -> None:
    async with receiver(hang) as there:
        first = harness.dispatcher()
        await harness.completed("one", there.url)
        await there.got(1)
        await first.stop()
        row = await harness.row("one")
        assert (row.done, row.attempts, row.owner) == (False, 0, None)
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 1
        assert len(there.received) == 2


async def test_what_a_dead_courier_had_taken_is_sent_by_another(harness: WebhookHarness) -> None:
    async with receiver() as there:
        await harness.completed("one", there.url)
        dead = harness.outbox(lease_s=-1.0)
        (lost,) = await dead.claim("dead", ["one"])
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 2
        await dead.retry_later(lost, 0.0, "late", "late")
        row = await harness.row("one")
        assert row.done and row.last_error is None
        assert [line.message for line in await harness.told("one")] == [
            "webhook attempt 2: the receiver answered 200"
        ]


async def test_two_couriers_send_each_webhook_once(harness: WebhookHarness) -> None:
    names = [f"job-{i}" for i in range(20)]
    async with receiver() as there:
        for name in names:
            await harness.completed(name, there.url)
        harness.dispatcher(max_open=4)
        harness.dispatcher(max_open=4)
        for name in names:
            await harness.settled(name)
        assert sorted(message.json["request_id"] for message in there.received) == sorted(names)


async def test_a_slow_receiver_holds_back_nobody_else(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DUE_LIMIT", 4)  # fewer than wait for the slow one
    async with receiver(always=hang) as slow, receiver() as quick:
        for i in range(8):
            await harness.completed(f"slow-{i}", f"{slow.url}/{i}")
        await harness.completed("quick", quick.url)
        harness.dispatcher(max_open=4, max_per_receiver=2)
        await harness.settled("quick")
        await slow.got(2)
        await harness.completed("quick-again", quick.url)
        await harness.settled("quick-again")
        assert slow.most_open == len(slow.received) == 2


async def test_a_courier_that_has_ended_is_noticed(harness: WebhookHarness) -> None:
    dispatcher = harness.dispatcher()
    dispatcher.check()
    await dispatcher.stop()
    with pytest.raises(RuntimeError, match="has ended"):
        dispatcher.check()


def test_the_delay_grows_and_all_attempts_fit_into_the_life_of_a_result() -> None:
    settings = WebhookSettings()
    delays = [delay(attempt, settings) for attempt in range(1, settings.max_retries + 1)]
    assert delays[:4] == [10.0, 20.0, 40.0, 80.0] and delays[-1] == 6 * 3600.0
    assert delays == sorted(delays)
    assert 86400 < sum(delays) < 7 * 86400
