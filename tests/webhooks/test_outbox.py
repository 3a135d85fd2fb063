"""The outbox by itself: what is due, to whom, and who may say how it ended."""

from __future__ import annotations

from tests.webhooks.office import Office


async def test_busy_receivers_are_left_out_and_only_they(office: Office) -> None:
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
        await office.completed(job_id, url)
    outbox = office.outbox()
    assert {waiting.job_id for waiting in await outbox.due()} == set(urls)
    left = {waiting.job_id for waiting in await outbox.due(["https://host.example"])}
    assert left == {"longer", "port", "plain", "wild"}
    assert len(await outbox.due(["https://host_example"])) == 6


async def test_the_longest_overdue_come_first(office: Office) -> None:
    for name in ("a", "b", "c"):
        await office.completed(name, "https://host.example/")
    outbox = office.outbox()
    for name, late_s in (("b", 3.0), ("a", 1.0), ("c", 2.0)):
        (delivery,) = await outbox.claim("x", [name])
        await outbox.again(delivery, -late_s, "line", "error")
    assert [waiting.job_id for waiting in await outbox.due()] == ["b", "c", "a"]


async def test_a_claim_is_exclusive_until_it_ends(office: Office) -> None:
    await office.completed("one", "https://host.example/")
    one, other = office.outbox(), office.outbox()
    (first,) = await one.claim("a", ["one"])
    assert first.attempt == 1 and first.job.id == "one" and first.files_url == "https://service.example:8001"
    assert await other.claim("b", ["one"]) == [] and await other.due() == []
    await one.give_back(first)
    (second,) = await other.claim("b", ["one"])
    assert second.attempt == 1
    await one.finish(first, "late")  # it is no longer the first courier's
    assert not (await office.row("one")).done
    await other.finish(second, "webhook delivered")
    assert (await office.row("one")).done and await one.due() == []
    assert [event.message for event in await office.told("one")] == ["webhook delivered"]


async def test_a_job_that_is_forgotten_takes_its_webhook_along(office: Office) -> None:
    await office.completed("one", "https://host.example/")
    outbox = office.outbox()
    (delivery,) = await outbox.claim("a", ["one"])
    await office.store.delete(["one"])
    await outbox.finish(delivery, "webhook delivered")
    assert await office.store.events("one") == []


async def test_a_courier_that_takes_a_delivery_twice_speaks_for_the_second_time(office: Office) -> None:
    await office.completed("one", "https://host.example/")
    outbox = office.outbox(lease_s=-1.0)
    (first,) = await outbox.claim("a", ["one"])
    (second,) = await outbox.claim("a", ["one"])
    assert (first.attempt, second.attempt) == (1, 2)
    await outbox.finish(first, "late")
    assert not (await office.row("one")).done
    await outbox.finish(second, "webhook delivered")
    assert (await office.row("one")).done
