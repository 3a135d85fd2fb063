"""Shares of the chunks in flight: equal, at least two, nothing left idle, oldest first."""

from __future__ import annotations

import asyncio

from serve_app.runner.concurrency import Share, Window


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def ask(window: Window, share: Share, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(window.acquire(share)) for _ in range(count)]


def granted(tasks: list[asyncio.Task[None]]) -> int:
    return sum(task.done() for task in tasks)


async def drop(*groups: list[asyncio.Task[None]]) -> None:
    for task in (task for group in groups for task in group):
        task.cancel()
    await asyncio.gather(*(task for group in groups for task in group), return_exceptions=True)


async def test_one_job_has_all_places() -> None:
    window = Window(6)
    async with window.share(0, 1.0) as share:
        tasks = ask(window, share, 10)
        await settle()
        assert granted(tasks) == 6
        window.release(share)
        await settle()
        assert granted(tasks) == 7
        await drop(tasks)


async def test_two_jobs_share_equally() -> None:
    window = Window(6)
    async with window.share(0, 1.0) as old, window.share(0, 2.0) as young:
        first, second = ask(window, old, 10), ask(window, young, 10)
        await settle()
        assert (granted(first), granted(second)) == (6, 2)  # the old one was alone when it asked
        for _ in range(4):
            window.release(old)
            await settle()
        assert old.in_flight == 3
        assert young.in_flight == 3
        await drop(first, second)


async def test_what_one_does_not_use_goes_to_the_other() -> None:
    window = Window(6)
    async with window.share(0, 1.0) as old, window.share(0, 2.0) as young:
        first = ask(window, old, 1)
        second = ask(window, young, 10)
        await settle()
        assert (granted(first), granted(second)) == (1, 5)
        await drop(first, second)


async def test_every_job_has_two_even_in_a_full_window() -> None:
    window = Window(2)
    async with window.share(0, 1.0) as old, window.share(0, 2.0) as young:
        first, second = ask(window, old, 5), ask(window, young, 5)
        await settle()
        assert (granted(first), granted(second)) == (2, 2)
        await drop(first, second)


async def test_priority_goes_before_age() -> None:
    window = Window(2)
    async with window.share(0, 0.0) as holder, window.share(1, 1.0) as low, window.share(0, 2.0) as normal:
        held = ask(window, holder, 2)
        await settle()
        order: list[str] = []

        async def wait(name: str, share: Share) -> None:
            await window.acquire(share)
            order.append(name)

        low.in_flight = normal.in_flight = 2  # both have their two; what is free next goes by order
        tasks = [asyncio.create_task(wait("low", low)), asyncio.create_task(wait("normal", normal))]
        await settle()
        assert order == []
        low.in_flight = normal.in_flight = 0
        holder.in_flight = 1
        window.release(holder)
        await settle()
        assert order == ["normal", "low"]
        await drop(held, tasks)


async def test_a_cancelled_wait_leaves_no_hole() -> None:
    window = Window(2)
    async with window.share(0, 1.0) as share:
        held = ask(window, share, 2)
        await settle()
        waiting = ask(window, share, 2)
        await settle()
        waiting[0].cancel()
        window.release(share)
        await settle()
        assert waiting[0].cancelled()
        assert waiting[1].done()
        assert share.in_flight == 2
        await drop(held)


async def test_a_place_granted_to_a_cancelled_wait_is_given_back() -> None:
    window = Window(2)
    async with window.share(0, 1.0) as share:
        await drop(ask(window, share, 0))
        held = ask(window, share, 2)
        await settle()
        waiting = ask(window, share, 1)
        await settle()
        window.release(share)  # granted now, but the task has not run yet
        waiting[0].cancel()
        await settle()
        assert share.in_flight == 1
        await drop(held, waiting)
