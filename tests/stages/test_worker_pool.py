"""Heavy work in threads: limits count from its start, and whoever stops waiting stops the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from serve_app.errors import JobCancelled, WorkTimeout
from serve_app.protocols import CallLimits
from serve_app.stages.worker_pool import WorkerPool

LONG = CallLimits(60.0)


def until_told(started: threading.Event) -> Callable[[Callable[[], bool]], None]:
    def work(cancelled: Callable[[], bool]) -> None:
        started.set()
        while not cancelled():
            threading.Event().wait(0.001)
        raise JobCancelled("seen")

    return work


async def test_the_result_comes_back() -> None:
    assert await WorkerPool(1, "adding").run(lambda _: 2 + 3, LONG) == 5


async def test_an_error_comes_back() -> None:
    def work(cancelled: Callable[[], bool]) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await WorkerPool(1, "failing").run(work, LONG)


async def test_a_timeout_of_the_works_own_is_not_ours() -> None:
    def work(cancelled: Callable[[], bool]) -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await WorkerPool(1, "reading").run(work, LONG)


async def test_work_that_takes_too_long_is_stopped() -> None:
    started = threading.Event()
    with pytest.raises(WorkTimeout, match=r"running took longer than 0\.05 s"):
        await WorkerPool(1, "running").run(until_told(started), CallLimits(0.05))
    assert started.is_set()


async def test_cancelling_the_call_stops_the_work() -> None:
    started = threading.Event()
    bench = WorkerPool(1, "running")
    call = asyncio.create_task(bench.run(until_told(started), LONG))
    await asyncio.to_thread(started.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await bench.run(lambda _: "free again", LONG) == "free again"


async def test_waiting_for_a_slot_is_not_work() -> None:
    bench = WorkerPool(1, "queueing")
    release, started = threading.Event(), threading.Event()

    def first(cancelled: Callable[[], bool]) -> None:
        started.set()
        release.wait()

    holder = asyncio.create_task(bench.run(first, LONG))
    await asyncio.to_thread(started.wait)
    waiter = asyncio.create_task(bench.run(lambda _: "done", CallLimits(0.05)))
    await asyncio.sleep(0.1)  # twice the waiter's limit
    assert not waiter.done()
    release.set()
    assert await waiter == "done"
    await holder
