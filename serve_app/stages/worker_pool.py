"""Runs heavy work of async methods in threads, with cancellation and a time limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serve_app.errors import WorkTimeout
from serve_app.protocols import CallLimits

T = TypeVar("T")
Cancelled = Callable[[], bool]


class WorkerPool:
    """Runs at most `slots` work functions at once. Further calls wait; the time limit excludes the wait.

    A work function gets `cancelled() -> bool` and polls it between frames or batches. A sync Serve method could not
    be cancelled at all: its thread would run to the end.
    """

    def __init__(self, slots: int, name: str) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix=name)
        self._name = name

    async def run(self, work: Callable[[Cancelled], T], limits: CallLimits) -> T:
        """Return the result of `work`. Raises `WorkTimeout`. Waits for the thread to end, also when cancelled."""
        async with self._slots:
            flag = threading.Event()
            job = asyncio.get_running_loop().run_in_executor(self._pool, work, flag.is_set)
            try:
                return await asyncio.wait_for(asyncio.shield(job), limits.work_s)
            except TimeoutError:
                if job.done():  # the work itself raised it
                    raise
                raise WorkTimeout(
                    f"{self._name} took longer than {limits.work_s:g} s for one chunk. Raise `runner.work_s`, "
                    "or lower `chunk.max_frames` or the operating resolution."
                ) from None
            finally:
                flag.set()
                if not job.done():
                    await asyncio.wait([job])
                    job.exception()  # mark the error of the cancelled work as retrieved
