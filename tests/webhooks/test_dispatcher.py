"""The dispatcher with a real outbox and real sockets: deliveries, retries and their end."""

from __future__ import annotations

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
from tests.waiting import until
from tests.webhooks.harness import WebhookHarness
from tests.webhooks.receiver import (
    Received,
    close_in_the_headers,
    close_without_reply,
    hang,
    receiver,
    reply_endlessly,
    status,
    verifies,
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


async def test_a_finished_job_is_delivered_once_and_signed(harness: WebhookHarness) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url + "/hook?key=a%20b", account="alice", mask=True)
        harness.dispatcher()
        row = await harness.settled("one")
    (message,) = target.received
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
        assert verifies(message, await published(harness.keys, path), time.time())
    assert (row.attempts, row.last_error, row.owner) == (1, None, None)
    (line,) = await harness.webhook_lines("one")
    assert (line.level, line.message) == ("INFO", "webhook attempt 1: the receiver answered 200")


async def test_the_verification_of_these_tests_rejects_altered_messages(harness: WebhookHarness) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url)
        harness.dispatcher()
        (message,) = await target.wait_for(1)
    jwks, now = harness.keys.ring().published(time.time()), time.time()
    assert verifies(message, jwks, now)
    assert not verifies(message, jwks, now + 400)
    assert not verifies(Received("/", message.headers, message.body + b" "), jwks, now)
    other = message.headers | {"x-fal-webhook-user-id": "mallory"}
    assert not verifies(Received("/", other, message.body), jwks, now)
    assert not verifies(message, KeyFile(harness.keys.path.with_name("other")).ring().published(now), now)


async def test_failed_and_cancelled_jobs_are_delivered_with_their_error(harness: WebhookHarness) -> None:
    error = to_wire(DownloadFailed("closed"))
    async with receiver() as target:
        await harness.failed("failed", target.url, error)
        await harness.claimed("cancelled", target.url)
        await harness.store.request_cancel("cancelled")
        harness.dispatcher()
        messages = {message.json["request_id"]: message for message in await target.wait_for(2)}
    failed, cancelled = messages["failed"], messages["cancelled"]
    assert failed.json["status"] == "ERROR" and failed.json["payload"] == error.body
    assert failed.json["error"] == "Invalid status code: 422"
    assert cancelled.json["error"] == "Invalid status code: 499"
    assert cancelled.json["payload"]["error_type"] == "client_cancelled"
    assert failed.headers["x-fal-webhook-user-id"] == harness.keys.ring().installation


async def test_a_failed_attempt_is_retried_with_a_new_signature(harness: WebhookHarness) -> None:
    async with receiver(status(500), close_without_reply, close_in_the_headers, hang, status(404)) as target:
        await harness.completed("one", target.url)
        harness.dispatcher(retry_limit_s=4.0)
        row = await harness.settled("one")
    assert row.attempts == len(target.received) == 6 and row.last_error is None
    jwks = await published(harness.keys)
    assert all(verifies(message, jwks, time.time()) for message in target.received)
    assert len({message.body for message in target.received}) == 1
    lines = await harness.webhook_lines("one")
    assert [line.level for line in lines] == ["WARN"] * 5 + ["INFO"]
    assert "answered 500; next attempt in 0 s" in lines[0].message
    assert "connection failed" in lines[1].message and "connection failed" in lines[2].message
    assert "did not answer within 4 s" in lines[3].message
    assert target.url not in "".join(line.message for line in lines)


async def test_the_next_attempt_is_delayed(harness: WebhookHarness) -> None:
    async with receiver(status(503)) as target:
        await harness.completed("one", target.url)
        dispatcher = harness.dispatcher(first_delay_s=3600.0)
        await target.wait_for(1)

        async def tried() -> bool:
            return bool(await harness.webhook_lines("one"))

        await until(tried)
        await dispatcher.stop()
        row = await harness.row("one")
    assert not row.done and row.next_at > time.time() + 3000
    assert row.last_error == "the receiver answered 503"
    assert await harness.outbox().due() == []


async def test_a_redirect_ends_the_delivery(harness: WebhookHarness) -> None:
    async with receiver() as elsewhere, receiver(status(302, f"Location: {elsewhere.url}/")) as target:
        await harness.completed("one", target.url)
        harness.dispatcher()
        row = await harness.settled("one")
        assert len(target.received) == 1 and elsewhere.received == []
    assert row.last_error == "the receiver answered 302, and webhooks follow no redirects"
    (line,) = await harness.webhook_lines("one")
    assert line.level == "WARN" and line.message.endswith("no further attempts")


async def test_private_receivers_need_permission(harness: WebhookHarness) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url)
        await harness.completed("two", target.url.replace("127.0.0.1", "localhost"))
        harness.dispatcher(allow_private=False)
        for job_id in ("one", "two"):
            row = await harness.settled(job_id)
            assert "not on the public internet" in row.last_error
        assert target.received == []


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"ports": (443,)}, "sends no webhooks to port"),
        ({"deny": ("127.0.0.1",)}, "not on the public internet"),
        ({"allow_private": False, "allow": ("127.0.0.1/32",)}, ""),
    ],
)
async def test_ports_and_networks_may_be_restricted(
    harness: WebhookHarness, rules: dict[str, Any], words: str
) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url)
        harness.dispatcher(**rules)
        row = await harness.settled("one")
        assert (words in row.last_error) if words else (row.last_error is None)
        assert len(target.received) == (0 if words else 1)


async def test_unreachable_and_unknown_hosts(harness: WebhookHarness) -> None:
    with socket.socket() as taken:  # a port without a listener
        taken.bind(("127.0.0.1", 0))
        await harness.completed("unreachable", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        await harness.completed("unknown", "http://unknown.invalid/")
        harness.dispatcher(max_retries=1)
        unreachable, unknown = await harness.settled("unreachable"), await harness.settled("unknown")
    assert unreachable.attempts == unknown.attempts == 2
    assert "no connection to the receiver" in unreachable.last_error
    assert unknown.last_error == "the receiver's host name cannot be resolved"


async def test_retries_are_limited(harness: WebhookHarness) -> None:
    async with receiver(always=status(500)) as target:
        await harness.completed("one", target.url)
        harness.dispatcher(max_retries=3)
        row = await harness.settled("one")
        assert row.attempts == len(target.received) == 4


async def test_an_expired_result_is_not_delivered(harness: WebhookHarness) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url)
        await harness.store.files_deleted(["one"])
        harness.dispatcher()
        assert (await harness.settled("one")).last_error == "the result has expired"
        assert target.received == []


async def test_only_the_status_of_a_reply_is_read(harness: WebhookHarness) -> None:
    async with receiver(reply_endlessly) as target:
        await harness.completed("one", target.url)
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 1


async def test_a_restart_before_delivery_loses_nothing(harness: WebhookHarness) -> None:
    async with receiver(hang) as target:
        first = harness.dispatcher()
        await harness.completed("one", target.url)
        await target.wait_for(1)
        await first.stop()
        row = await harness.row("one")
        assert (row.done, row.attempts, row.owner) == (False, 0, None)
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 1
        assert len(target.received) == 2


async def test_a_delivery_of_a_dead_dispatcher_is_sent_by_another(harness: WebhookHarness) -> None:
    async with receiver() as target:
        await harness.completed("one", target.url)
        dead = harness.outbox(lease_s=-1.0)
        (lost,) = await dead.claim("dead", ["one"])
        harness.dispatcher()
        assert (await harness.settled("one")).attempts == 2
        await dead.retry_later(lost, 0.0, "late", "late")
        row = await harness.row("one")
        assert row.done and row.last_error is None
        assert [line.message for line in await harness.webhook_lines("one")] == [
            "webhook attempt 2: the receiver answered 200"
        ]


async def test_two_dispatchers_send_each_webhook_once(harness: WebhookHarness) -> None:
    names = [f"job-{i}" for i in range(20)]
    async with receiver() as target:
        for name in names:
            await harness.completed(name, target.url)
        harness.dispatcher(max_open=4)
        harness.dispatcher(max_open=4)
        for name in names:
            await harness.settled(name)
        assert sorted(message.json["request_id"] for message in target.received) == sorted(names)


async def test_a_slow_receiver_does_not_delay_others(
    harness: WebhookHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DUE_LIMIT", 4)  # fewer than the slow receiver's deliveries
    async with receiver(always=hang) as slow, receiver() as quick:
        for i in range(8):
            await harness.completed(f"slow-{i}", f"{slow.url}/{i}")
        await harness.completed("quick", quick.url)
        harness.dispatcher(max_open=4, max_per_receiver=2)
        await harness.settled("quick")
        await slow.wait_for(2)
        await harness.completed("quick-again", quick.url)
        await harness.settled("quick-again")
        assert slow.max_open_seen == len(slow.received) == 2


async def test_check_fails_after_the_dispatcher_stopped(harness: WebhookHarness) -> None:
    dispatcher = harness.dispatcher()
    dispatcher.check()
    await dispatcher.stop()
    with pytest.raises(RuntimeError, match="has ended"):
        dispatcher.check()


def test_delays_double_and_all_attempts_fit_into_the_retention_of_a_result() -> None:
    settings = WebhookSettings()
    delays = [delay(attempt, settings) for attempt in range(1, settings.max_retries + 1)]
    assert delays[:4] == [10.0, 20.0, 40.0, 80.0] and delays[-1] == 6 * 3600.0
    assert delays == sorted(delays)
    assert 86400 < sum(delays) < 7 * 86400
