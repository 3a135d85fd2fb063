"""Which replica a call goes to. The whole way, with real replicas, is in tests/cluster/test_decoding_cost.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from serve_app.runner.replica_choice import MAX_SESSIONS, ReplicaChoice

A, B, C = (SimpleNamespace(replica_id=name) for name in "abc")


def choice() -> Any:
    """Without the state of Ray's own class, which needs a cluster."""
    made = ReplicaChoice.__new__(ReplicaChoice)
    made.initialize_state()
    return made


def request(session: str = "") -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(session_id=session))


async def ranks(made: Any, session: str = "", candidates: tuple[Any, ...] = (A, B, C)) -> str:
    found = await made.choose_replicas(list(candidates), request(session))
    return "|".join("".join(replica.replica_id for replica in rank) for rank in found)


async def test_all_are_candidates_the_one_called_longest_ago_first() -> None:
    made = choice()
    assert await ranks(made) == "abc"
    made.on_request_routed(request(), "a", None)
    assert await ranks(made) == "bca"
    made.on_request_routed(request(), "b", None)
    assert await ranks(made) == "cab"


async def test_a_session_stays_where_it_was() -> None:
    made = choice()
    made.on_request_routed(request("run 0"), "b", None)
    made.on_request_routed(request("run 1"), "c", None)
    assert (await ranks(made, "run 0"), await ranks(made, "run 1")) == ("b", "c")


async def test_a_session_goes_elsewhere_when_its_replica_is_gone() -> None:
    made = choice()
    made.on_request_routed(request("run 0"), "b", None)
    assert await ranks(made, "run 0", (A, C)) == "ac"
    made.on_request_routed(request("run 0"), "c", None)
    assert await ranks(made, "run 0") == "c"


async def test_old_sessions_are_forgotten() -> None:
    made = choice()
    for number in range(MAX_SESSIONS + 1):
        made.on_request_routed(request(f"run {number}"), "b", None)
    assert await ranks(made, "run 0") == "acb"
    assert await ranks(made, f"run {MAX_SESSIONS}") == "b"
