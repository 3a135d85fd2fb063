"""Tells when a stage has answered, without fetching the answer: frames stay where they are."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray.serve.handle import DeploymentResponse

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

POLL_S = 0.01  # small beside a chunk; one look at all of them takes microseconds


async def accepted(response: DeploymentResponse[Any]) -> ray.ObjectRef[Any]:
    """Wait until a replica has accepted the call, which it does when the call's inputs are there; its future value.

    A developer API of Serve, meant for passing values to tasks outside of it.
    """
    return await response._to_object_ref()


class Readiness:
    """Watches responses in one task. Awaiting a response instead would copy its frames to the runner's node."""

    def __init__(self) -> None:
        self._watched: dict[ray.ObjectRef[Any], asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def wait(self, response: DeploymentResponse[Any]) -> None:
        """Wait for a value or a failure. Raises only what keeps the call from reaching a replica."""
        ref = await accepted(response)
        answered = self._watched.setdefault(ref, asyncio.get_running_loop().create_future())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            await answered
        finally:
            self._watched.pop(ref, None)

    async def _watch(self) -> None:
        while self._watched:
            refs = list(self._watched)
            try:
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
            except Exception:
                logger.exception("Ray cannot tell which chunks are ready")
                ready = refs  # who waits goes on, and fails where the value is needed
            for ref in ready:
                answered = self._watched.pop(ref)
                if not answered.done():
                    answered.set_result(None)
            await asyncio.sleep(POLL_S)
