"""Quotas that hold in one replica of the ingress: rate of requests, open streams, bytes of bodies.

Those on jobs hold over all replicas and are checked in the job table: `serve_app.jobs.sql.quotas`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.errors import QuotaExceeded
from serve_app.settings import Quota, QuotaSettings

MAX_ACCOUNTS = 10_000  # whose buckets are kept; the least recently used one starts anew, full

EVERYBODY = "all clients together"
ACCOUNT = "this account"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Held:
    """What is in use at the moment."""

    streams: int = 0
    body_bytes: int = 0


class _Scope:
    """One quota, and what one user of it has in use."""

    def __init__(self, quota: Quota, who: str, now: float) -> None:
        self.quota = quota
        self.who = who
        self.held = _Held()
        self.bucket = _Bucket(quota.burst, now)

    @property
    def idle(self) -> bool:
        return self.held == _Held()

    def has_token(self, now: float) -> bool:
        rate = self.quota.requests_per_s
        if rate is None:
            return True
        bucket = self.bucket
        bucket.tokens = min(self.quota.burst, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        return bucket.tokens >= 1


class Quotas:
    """Raises `QuotaExceeded` for what would exceed the quota of its account, or of all."""

    def __init__(self, settings: QuotaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._all = _Scope(settings.overall, EVERYBODY, clock())
        self._accounts: OrderedDict[str | None, _Scope] = OrderedDict()

    def count_request(self, account: str | None) -> None:
        """Takes a token for one request. A refused request takes none."""
        now, scopes = self._clock(), self._scopes(account)
        for scope in scopes:
            if not scope.has_token(now):
                raise QuotaExceeded(
                    f"{scope.who.capitalize()} may send {scope.quota.requests_per_s:g} requests per second: "
                    "send them more slowly."
                )
        for scope in scopes:
            scope.bucket.tokens -= 1

    @contextmanager
    def stream(self, account: str | None) -> Iterator[None]:
        """Counts an open status stream inside the block."""
        scopes = self._scopes(account)
        for scope in scopes:
            limit = scope.quota.streams
            if limit is not None and scope.held.streams >= limit:
                raise QuotaExceeded(
                    f"{scope.held.streams} status streams of {scope.who} are open, and {limit} may be: close one, "
                    "or poll the status."
                )
        for scope in scopes:
            scope.held.streams += 1
        try:
            yield
        finally:
            for scope in scopes:
                scope.held.streams -= 1

    @contextmanager
    def body(self, account: str | None) -> Iterator[BodyBytes]:
        """What a request's body takes until the end of the block."""
        taken = BodyBytes(self._scopes(account))
        try:
            yield taken
        finally:
            taken.release()

    def _scopes(self, account: str | None) -> tuple[_Scope, ...]:
        """The account's first: its refusal says more."""
        scope = self._accounts.get(account)
        if scope is None:
            scope = self._accounts[account] = _Scope(self.settings.account, ACCOUNT, self._clock())
            self._forget_idle()
        self._accounts.move_to_end(account)
        return scope, self._all

    def _forget_idle(self) -> None:
        if len(self._accounts) > MAX_ACCOUNTS:
            oldest = next(iter(self._accounts))
            if self._accounts[oldest].idle:
                del self._accounts[oldest]
            else:
                self._accounts.move_to_end(oldest)


class BodyBytes:
    """The bytes that one body holds of the budgets."""

    def __init__(self, scopes: tuple[_Scope, ...]) -> None:
        self._scopes = scopes
        self._size = 0

    def grow_to(self, size: int) -> None:
        """Takes what `size` exceeds the bytes taken so far. Raises `QuotaExceeded` if a budget does not have it."""
        more = size - self._size
        if more <= 0:
            return
        for scope in self._scopes:
            limit = scope.quota.body_bytes
            if limit is not None and scope.held.body_bytes + more > limit:
                raise QuotaExceeded(
                    f"The requests that {scope.who} send at the moment exceed {limit} bytes: send them one after the "
                    "other, or pass video_url as an http(s) URL."
                )
        for scope in self._scopes:
            scope.held.body_bytes += more
        self._size = size

    def release(self) -> None:
        for scope in self._scopes:
            scope.held.body_bytes -= self._size
        self._size = 0
