"""Limits the chunks in flight: jobs get equal shares of one limit, the oldest first within a priority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MIN_SHARE = 2  # one is computed while the next is prepared


@dataclass(slots=True, eq=False)
class Share:
    """One job's share of a window."""

    order: tuple[int, float]  # the smallest gets a free slot first
    in_flight: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Window:
    """The slots for chunks in flight, shared by the running jobs of one segmenter.

    Each job gets an equal share, at least `MIN_SHARE`; slots that a job does not use go to the other jobs.
    """

    def __init__(self, slots: int) -> None:
        self._slots = max(slots, MIN_SHARE)
        self._shares: list[Share] = []

    @asynccontextmanager
    async def share(self, priority: int, created_at: float) -> AsyncIterator[Share]:
        """Give a job a share of the slots for the duration of the context."""
        share = Share((priority, created_at))
        self._shares.append(share)
        try:
            yield share
        finally:
            self._shares.remove(share)
            self._grant()

    async def acquire(self, share: Share) -> None:
        """Wait for a free slot."""
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append(slot)
        self._grant()
        try:
            await slot
        except asyncio.CancelledError:
            if slot in share.waiting:
                share.waiting.remove(slot)
            elif not slot.cancelled():  # granted just before the cancellation
                self.release(share)
            raise

    def release(self, share: Share) -> None:
        share.in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        """Grant the free slots: first up to each job's equal share, then the rest."""
        shares = sorted(self._shares, key=lambda share: share.order)
        fair = max(MIN_SHARE, self._slots // max(1, len(shares)))
        for share in shares:
            while share.waiting and share.in_flight < fair and self._may_start(share):
                self._start(share)
        for share in shares:
            while share.waiting and self._used() < self._slots:
                self._start(share)

    def _may_start(self, share: Share) -> bool:
        """Whether the job may get one more slot: up to `MIN_SHARE` always, beyond that only if one is free."""
        return share.in_flight < MIN_SHARE or self._used() < self._slots

    def _used(self) -> int:
        return sum(share.in_flight for share in self._shares)

    def _start(self, share: Share) -> None:
        slot = share.waiting.pop(0)
        if not slot.done():
            share.in_flight += 1
            slot.set_result(None)
