"""Waiting for what another task, thread or process brings about. A condition that holds is seen at once: only a test
that fails waits for the whole of its limit, so that a busy machine fails none.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Look every few milliseconds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
