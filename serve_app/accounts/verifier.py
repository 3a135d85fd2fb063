"""Key verification with a cache: every request is verified, and a waiting client polls ten times a second."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serve_app.accounts.keys import ApiKey, hash_secret

MAX_CACHED = 1024
_ID = re.compile(r"[0-9a-f-]{36}")  # other ids are not looked up
# Stands in for an unknown key, so that its secret is compared too.
UNKNOWN = ApiKey("", "", "", hash_secret(""), False, 0.0, revoked_at=0.0)


class Keys(Protocol):
    async def find(self, key_id: str) -> ApiKey | None: ...


@dataclass(frozen=True, slots=True)
class _CachedKey:
    key: ApiKey
    until: float


class Verifier:
    """Verifies keys and caches them for `cache_s` seconds; a revoked key stays valid that long.

    Only existing keys are cached, so a new key works at once and guesses evict nothing. The secret is compared on each
    call, even for an unknown id, so the response time does not reveal whether id or secret was wrong.
    """

    def __init__(self, keys: Keys, cache_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._clock = clock
        self._cache: OrderedDict[str, _CachedKey] = OrderedDict()

    async def verify(self, key_id: str, secret: str) -> ApiKey | None:
        """Returns the key, or None if the id or the secret is wrong or the key is revoked."""
        key = await self._find(key_id) or UNKNOWN
        matches = key.matches(secret)
        return key if matches and key.revoked_at is None else None

    async def is_valid(self, key_id: str) -> bool:
        """Whether the key exists and is not revoked, for what was signed on its behalf."""
        key = await self._find(key_id)
        return key is not None and key.revoked_at is None

    async def _find(self, key_id: str) -> ApiKey | None:
        cached = self._cache.get(key_id)
        if cached is not None and cached.until > self._clock():
            return cached.key
        looked_up_at = self._clock()
        key = await self._keys.find(key_id) if _ID.fullmatch(key_id) else None
        if key is not None:
            self._cache[key_id] = _CachedKey(key, looked_up_at + self._cache_s)
            self._cache.move_to_end(key_id)
            if len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return key
