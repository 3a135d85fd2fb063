"""Shares of a pool: equal, at least what is assured, nothing left idle, by priority and age."""

from __future__ import annotations

import asyncio

from serve_app.runner.pool import Claimant, Holding, Pool

OLD, YOUNG, LOW = Claimant(0, 1.0), Claimant(0, 2.0), Claimant(1, 0.0)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


class Asker:
    """Requests of one job, and what was granted to it."""

    def __init__(self, pool: Pool, claimant: Claimant, count: int, amount: int = 1) -> None:
        self.tasks = [asyncio.create_task(pool.acquire(claimant, amount)) for _ in range(count)]

    @property
    def granted(self) -> int:
        return sum(task.done() and not task.cancelled() for task in self.tasks)

    def holdings(self) -> list[Holding]:
        return [task.result() for task in self.tasks if task.done() and not task.cancelled()]

    async def drop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_one_job_has_everything() -> None:
    pool = Pool(6)
    job = Asker(pool, OLD, 10)
    await settle()
    assert job.granted == 6
    job.holdings()[0].release()
    job.holdings()[0].release()  # again: nothing more is released
    await settle()
    assert job.granted == 7
    await job.drop()


async def test_two_jobs_end_up_with_equal_shares() -> None:
    pool = Pool(6)
    old, young = Asker(pool, OLD, 10), Asker(pool, YOUNG, 10)
    await settle()
    assert (old.granted, young.granted) == (6, 0)  # the old one asked first
    for holding in old.holdings()[:5]:
        holding.release()
        await settle()
    assert (pool.amount_of(OLD), pool.amount_of(YOUNG)) == (3, 3)
    await old.drop()
    await young.drop()


async def test_what_one_does_not_use_goes_to_the_other() -> None:
    pool = Pool(6)
    old, young = Asker(pool, OLD, 1), Asker(pool, YOUNG, 10)
    await settle()
    assert (old.granted, young.granted) == (1, 5)
    await old.drop()
    await young.drop()


async def test_what_is_assured_is_granted_even_when_all_is_taken() -> None:
    pool = Pool(100, assured=2)
    old = Asker(pool, OLD, 5, amount=100)
    await settle()
    young = Asker(pool, YOUNG, 5, amount=30)
    await settle()
    assert (old.granted, young.granted) == (2, 2)
    await old.drop()
    await young.drop()


async def test_a_running_job_of_low_priority_gets_what_others_leave() -> None:
    pool = Pool(1)
    low = Asker(pool, LOW, 3)
    await settle()
    normal = Asker(pool, YOUNG, 2)
    await settle()
    for expected in [(1, 1), (1, 2), (2, 2)]:
        for holding in low.holdings() + normal.holdings():
            holding.release()
        await settle()
        assert (low.granted, normal.granted) == expected
    await low.drop()
    await normal.drop()


async def test_who_holds_least_comes_first() -> None:
    """A short job does not wait until a long one has had all that it asked for."""
    pool = Pool(4)
    long = Asker(pool, OLD, 20)
    await settle()
    short = Asker(pool, YOUNG, 2)
    await settle()
    for holding in long.holdings()[:2]:
        holding.release()
    await settle()
    assert (long.granted, short.granted) == (4, 2)
    await long.drop()
    await short.drop()


async def test_large_amounts_are_not_overtaken() -> None:
    pool = Pool(10)
    held = Asker(pool, OLD, 1, amount=8)
    await settle()
    large = Asker(pool, YOUNG, 1, amount=9)
    await settle()
    small = Asker(pool, LOW, 1, amount=1)
    await settle()
    assert (large.granted, small.granted) == (0, 0)
    held.holdings()[0].release()
    await settle()
    assert (large.granted, small.granted) == (1, 1)
    await large.drop()
    await small.drop()


async def test_what_shrinks_makes_room() -> None:
    pool = Pool(10)
    first = Asker(pool, OLD, 1, amount=10)
    await settle()
    second = Asker(pool, OLD, 1, amount=4)
    await settle()
    assert second.granted == 0
    first.holdings()[0].resize(6)
    await settle()
    assert second.granted == 1
    assert pool.amount_of(OLD) == 10
    await second.drop()


async def test_a_cancelled_wait_leaves_no_hole() -> None:
    pool = Pool(1)
    held = Asker(pool, OLD, 1)
    await settle()
    waiting = Asker(pool, OLD, 2)
    await settle()
    waiting.tasks[0].cancel()
    held.holdings()[0].release()
    await settle()
    assert waiting.tasks[0].cancelled()
    assert waiting.granted == 1
    await waiting.drop()


async def test_what_was_granted_to_a_cancelled_wait_is_given_back() -> None:
    pool = Pool(1)
    held = Asker(pool, OLD, 1)
    await settle()
    waiting = Asker(pool, YOUNG, 1)
    await settle()
    held.holdings()[0].release()  # granted now, but the task has not run yet
    waiting.tasks[0].cancel()
    await settle()
    assert pool.amount_of(YOUNG) == 0
    await waiting.drop()


async def test_a_job_that_ends_leaves_nothing() -> None:
    pool = Pool(2)
    first = Asker(pool, OLD, 2)
    await settle()
    second = Asker(pool, YOUNG, 2)
    await settle()
    assert second.granted == 0
    pool.forget(OLD)
    await settle()
    assert second.granted == 2
    first.holdings()[0].release()  # too late: it changes nothing
    assert pool.amount_of(YOUNG) == 2
