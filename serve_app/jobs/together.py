"""Look-ups that share their queries: waiting clients ask for many jobs, ten times a second each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

MOST = 64  # keys of one query


class Together(Generic[Key, Value]):
    """Fetches at once what is asked for first, and what is asked for meanwhile with one next query.

    A look-up is never answered by a query that began before it, so it sees every write that came before.
    """

    def __init__(self, fetch: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._fetch = fetch
        self._asked: dict[Key, asyncio.Future[Value | None]] = {}
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value of `key`, None when there is none. Raises what the query raised."""
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._work())
        return await asyncio.shield(answer)

    async def _work(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[:MOST]
                answers = [self._asked.pop(key) for key in keys]
                try:
                    found = await self._fetch(keys)
                except Exception as error:
                    for answer in answers:
                        answer.set_exception(error)
                        answer.exception()  # its asker may have gone
                else:
                    for key, answer in zip(keys, answers, strict=True):
                        answer.set_result(found.get(key))
        finally:
            self._fetching = None
