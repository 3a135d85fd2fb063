"""Look-ups that share their queries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from serve_app.jobs.together import MOST, Together


class Table:
    """Answers each key with itself in capitals and the number of the query, when the gate is open."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def fetch(self, keys: Sequence[str]) -> Mapping[str, str]:
        self.queries.append(list(keys))
        number = len(self.queries)
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("gone")
        return {key: f"{key.upper()}{number}" for key in keys if key != "none"}


async def test_what_is_asked_during_a_query_shares_the_next() -> None:
    table = Table()
    table.gate.clear()
    together = Together(table.fetch)
    first = asyncio.create_task(together.get("a"))
    while not table.queries:  # noqa: ASYNC110
        await asyncio.sleep(0)
    later = [asyncio.create_task(together.get(key)) for key in ("a", "b", "b", "none")]
    await asyncio.sleep(0)
    table.gate.set()
    assert await first == "A1"
    assert await asyncio.gather(*later) == ["A2", "B2", "B2", None]  # "a" was asked anew: it may have changed
    assert table.queries == [["a"], ["a", "b", "none"]]
    assert await together.get("c") == "C3"


async def test_who_goes_away_takes_nobody_along() -> None:
    table = Table()
    table.gate.clear()
    together = Together(table.fetch)
    tasks = [asyncio.create_task(together.get("a")) for _ in range(2)]
    while not table.queries:  # noqa: ASYNC110
        await asyncio.sleep(0)
    tasks[0].cancel()
    table.gate.set()
    assert await tasks[1] == "A1"
    assert tasks[0].cancelled() or tasks[0].cancelling()


async def test_a_failure_is_told_to_all_and_the_next_query_is_a_new_try() -> None:
    table = Table()
    table.broken = True
    together = Together(table.fetch)
    failed = await asyncio.gather(together.get("a"), together.get("b"), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError, ConnectionError]
    table.broken = False
    assert await together.get("a") == "A2"


@pytest.mark.parametrize("count", [MOST, MOST + 1, 3 * MOST])
async def test_a_query_has_its_limit(count: int) -> None:
    table = Table()
    together = Together(table.fetch)
    found = await asyncio.gather(*(together.get(f"k{n}") for n in range(count)))
    assert len(found) == count and None not in found
    assert all(len(query) <= MOST for query in table.queries)
