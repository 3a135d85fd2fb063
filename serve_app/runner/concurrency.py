"""How many chunks each job may have in flight: equal shares of one limit, oldest first within a priority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LEAST = 2  # one is computed while the next is prepared


@dataclass(slots=True, eq=False)
class Share:
    """One job's part of a window. `order`: smaller goes first when a place is free."""

    order: tuple[int, float]
    in_flight: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Window:
    """Places for chunks in flight, shared by the running jobs of one segmenter.

    Each job gets an equal share (at least two); what a job does not use, the others may.
    """

    def __init__(self, places: int) -> None:
        self._places = max(places, LEAST)
        self._shares: list[Share] = []

    @asynccontextmanager
    async def share(self, priority: int, created_at: float) -> AsyncIterator[Share]:
        """A job's membership: the places are shared out among members."""
        share = Share((priority, created_at))
        self._shares.append(share)
        try:
            yield share
        finally:
            self._shares.remove(share)
            self._grant()

    async def acquire(self, share: Share) -> None:
        """Wait for a place."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        share.waiting.append(place)
        self._grant()
        try:
            await place
        except asyncio.CancelledError:
            if place in share.waiting:
                share.waiting.remove(place)
            elif not place.cancelled():  # granted in the same moment
                self.release(share)
            raise

    def release(self, share: Share) -> None:
        share.in_flight -= 1
        self._grant()

    def _grant(self) -> None:
        """Hand out what may be handed out: first up to each job's share, then what is left over."""
        members = sorted(self._shares, key=lambda share: share.order)
        fair = max(LEAST, self._places // max(1, len(members)))
        for share in members:
            while share.waiting and share.in_flight < fair and self._may_start(share):
                self._start(share)
        for share in members:
            while share.waiting and self._used() < self._places:
                self._start(share)

    def _may_start(self, share: Share) -> bool:
        """Two places are a job's own even when the window is full; more only while there is room."""
        return share.in_flight < LEAST or self._used() < self._places

    def _used(self) -> int:
        return sum(share.in_flight for share in self._shares)

    def _start(self, share: Share) -> None:
        place = share.waiting.pop(0)
        if not place.done():
            share.in_flight += 1
            place.set_result(None)
