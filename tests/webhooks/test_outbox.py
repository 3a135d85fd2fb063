"""The outbox: due deliveries, exclusive claims, and fencing."""

from __future__ import annotations

from tests.webhooks.harness import WebhookHarness


async def test_only_busy_receivers_are_excluded(harness: WebhookHarness) -> None:
    urls = {
        "exact": "https://host.example",
        "path": "https://host.example/a",
        "query": "https://host.example?a",
        "longer": "https://host.example.org/a",
        "port": "https://host.example:8443/a",
        "plain": "http://host.example/a",
        "wild": "https://host_example/a",
    }
    for job_id, url in urls.items():
        await harness.completed(job_id, url)
    outbox = harness.outbox()
    assert {waiting.job_id for waiting in await outbox.due()} == set(urls)
    left = {waiting.job_id for waiting in await outbox.due(["https://host.example"])}
    assert left == {"longer", "port", "plain", "wild"}
    assert len(await outbox.due(["https://host_example"])) == 6


async def test_the_longest_overdue_delivery_is_first(harness: WebhookHarness) -> None:
    for name in ("a", "b", "c"):
        await harness.completed(name, "https://host.example/")
    outbox = harness.outbox()
    for name, late_s in (("b", 3.0), ("a", 1.0), ("c", 2.0)):
        (delivery,) = await outbox.claim("x", [name])
        await outbox.retry_later(delivery, -late_s, "line", "error")
    assert [waiting.job_id for waiting in await outbox.due()] == ["b", "c", "a"]


async def test_a_claim_is_exclusive_until_released(harness: WebhookHarness) -> None:
    await harness.completed("one", "https://host.example/")
    one, other = harness.outbox(), harness.outbox()
    (first,) = await one.claim("a", ["one"])
    assert first.attempt == 1 and first.job.id == "one" and first.files_url == "https://service.example:8001"
    assert await other.claim("b", ["one"]) == [] and await other.due() == []
    await one.release(first)
    (second,) = await other.claim("b", ["one"])
    assert second.attempt == 1
    await one.finish(first, "late")  # it is no longer the first dispatcher's
    assert not (await harness.row("one")).done
    await other.finish(second, "webhook delivered")
    assert (await harness.row("one")).done and await one.due() == []
    assert [event.message for event in await harness.webhook_lines("one")] == ["webhook delivered"]


async def test_a_deleted_job_has_no_webhook(harness: WebhookHarness) -> None:
    await harness.completed("one", "https://host.example/")
    outbox = harness.outbox()
    (delivery,) = await outbox.claim("a", ["one"])
    await harness.store.delete(["one"])
    await outbox.finish(delivery, "webhook delivered")
    assert await harness.store.events("one") == []


async def test_only_the_latest_claim_of_a_delivery_can_end_it(
    harness: WebhookHarness,
) -> None:
    await harness.completed("one", "https://host.example/")
    outbox = harness.outbox(lease_s=-1.0)
    (first,) = await outbox.claim("a", ["one"])
    (second,) = await outbox.claim("a", ["one"])
    assert (first.attempt, second.attempt) == (1, 2)
    await outbox.finish(first, "late")
    assert not (await harness.row("one")).done
    await outbox.finish(second, "webhook delivered")
    assert (await harness.row("one")).done
