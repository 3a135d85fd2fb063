"""A limited amount of something that the running jobs of a runner share: bytes of the object store, or places."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Claimant:
    """A running job in its pools. Lower values of `priority` go first, then older jobs."""

    priority: int
    created_at: float


@dataclass(slots=True, eq=False)
class Holding:
    """What a job holds of a pool for one chunk, until it is released. Releasing it again does nothing."""

    pool: Pool
    claimant: Claimant
    amount: int

    def resize(self, amount: int) -> None:
        """Hold another amount from now on. More than before is granted at once, whatever the limit."""
        if self in self.pool.held.get(self.claimant, ()):
            self.amount = amount
            self.pool.grant()

    def release(self) -> None:
        if self in self.pool.held.get(self.claimant, ()):
            self.pool.held[self.claimant].remove(self)
            self.pool.grant()


@dataclass(slots=True, eq=False)
class _Request:
    holding: Holding
    granted: asyncio.Future[Holding] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Pool:
    """Grants amounts up to `limit`, and to each job `assured` holdings even beyond it.

    Of the waiting jobs, those with fewer than `assured` holdings come first, then the highest priority, then who holds
    least: jobs of one priority end up with equal shares, and what one does not use goes to the others.
    """

    def __init__(self, limit: int, assured: int = 0) -> None:
        self._limit = limit
        self._assured = assured
        self._waiting: list[_Request] = []
        self.held: defaultdict[Claimant, list[Holding]] = defaultdict(list)

    async def acquire(self, claimant: Claimant, amount: int = 1) -> Holding:
        """Wait until `amount` is granted."""
        request = _Request(Holding(self, claimant, amount))
        self._waiting.append(request)
        self.grant()
        try:
            return await request.granted
        except asyncio.CancelledError:
            if request in self._waiting:
                self._waiting.remove(request)
                self.grant()  # it may have stood before smaller ones
            request.holding.release()  # granted just before the cancellation
            raise

    def forget(self, claimant: Claimant) -> None:
        """The job has ended: nothing of it is waiting or held any more."""
        self.held.pop(claimant, None)
        self.grant()

    def amount_of(self, claimant: Claimant) -> int:
        return sum(holding.amount for holding in self.held.get(claimant, ()))

    def grant(self) -> None:
        """Grant what can be granted now. The first in order is never overtaken: large amounts get their turn."""
        used = sum(self.amount_of(claimant) for claimant in self.held)
        while self._waiting:
            request = min(self._waiting, key=self._order)
            holding = request.holding
            if self._is_short(holding.claimant) or used + holding.amount <= self._limit:
                self._waiting.remove(request)
                if not request.granted.done():
                    self.held[holding.claimant].append(holding)
                    used += holding.amount
                    request.granted.set_result(holding)
            else:
                return

    def _order(self, request: _Request) -> tuple[bool, int, int, float]:
        claimant = request.holding.claimant
        return (
            not self._is_short(claimant),
            claimant.priority,
            self.amount_of(claimant),
            claimant.created_at,
        )

    def _is_short(self, claimant: Claimant) -> bool:
        """Whether the job has fewer holdings than it is assured of."""
        return len(self.held.get(claimant, ())) < self._assured
