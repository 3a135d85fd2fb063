"""Chooses the replica of a stage call, in place of Serve's choice of the better of two at random."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

MAX_SESSIONS = 10_000  # remembered; far more than there are runs of chunks at a time


class ReplicaChoice(RequestRouter):  # type: ignore[misc]  # Ray's classes have no types
    """The replica with the fewest ongoing calls; calls of one session go to the replica that had the last one.

    With two at random, a free segmenter would often be overlooked. A session is a run of consecutive chunks of one
    source: the decoder that stands at the next chunk need not read from a keyframe, or from the beginning, again.
    """

    def initialize_state(self, **_: Any) -> None:
        self._last: OrderedDict[str, ReplicaID] = OrderedDict()  # by session
        self._routed: dict[ReplicaID, int] = {}  # the number of each replica's latest call
        self._calls = itertools.count(1)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One rank of candidates; the one with the fewest ongoing calls among them is taken."""
        session = pending_request.metadata.session_id if pending_request else ""
        if session in self._last:
            same = [replica for replica in candidate_replicas if replica.replica_id == self._last[session]]
            if same:
                return [same]
        # Of equal ones the first is taken. If the end of a call is not known here yet, it is the one that began first.
        return [sorted(candidate_replicas, key=lambda replica: self._routed.get(replica.replica_id, 0))]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        self._routed[replica_id] = next(self._calls)
        session = pending_request.metadata.session_id
        if session:
            self._last[session] = replica_id
            self._last.move_to_end(session)
            if len(self._last) > MAX_SESSIONS:
                self._last.popitem(last=False)
