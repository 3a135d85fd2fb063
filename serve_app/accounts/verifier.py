"""Whether a key is valid, asked with every request: a waiting client polls ten times a second."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serve_app.accounts.keys import ApiKey, hash_of

REMEMBERED = 1024
_ID = re.compile(r"[0-9a-f-]{36}")  # nothing else reaches the database
NOBODY = ApiKey(
    "", "", "", hash_of(""), False, 0.0, revoked_at=0.0
)  # its secret is compared where there is no key


class Keys(Protocol):
    async def find(self, key_id: str) -> ApiKey | None: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    key: ApiKey
    until: float


class Verifier:
    """Believes what the table said for `cache_s` seconds: so long a revoked key lives on.

    Only keys that exist are remembered, so a new key works at once and guesses push nothing out. The secret is
    compared with each call, also where there is no such key: the time tells nothing about which of the two was wrong.
    """

    def __init__(self, keys: Keys, cache_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._clock = clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    async def verify(self, key_id: str, secret: str) -> ApiKey | None:
        """The key, or None when the id or the secret is wrong or the key was revoked."""
        key = await self._find(key_id) or NOBODY
        opened = key.opened_by(secret)
        return key if opened and key.revoked_at is None else None

    async def _find(self, key_id: str) -> ApiKey | None:
        seen = self._seen.get(key_id)
        if seen is not None and seen.until > self._clock():
            return seen.key
        asked = self._clock()
        key = await self._keys.find(key_id) if _ID.fullmatch(key_id) else None
        if key is not None:
            self._seen[key_id] = _Seen(key, asked + self._cache_s)
            self._seen.move_to_end(key_id)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return key
