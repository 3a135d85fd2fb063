"""Calls to the stages: chained without touching what passes between, tried again after losses, cancelled whole."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentResponse

from serve_app.errors import CapacityTimeout, ReplicasLost
from serve_app.jobs.retry import as_service_error, is_loss, typed

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

TRIES = 3
CANCEL_S = 10.0  # how long a cancelled call may take to end before it is left behind


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """`limit_s` bounds each try, waiting for a replica included (the stages bound their own work). `note` is told of
    each loss that another try follows.
    """

    limit_s: float
    note: Callable[[str], Awaitable[None]]
    tries: int = TRIES


async def call(start: Callable[[], Sequence[DeploymentResponse[Any]]], what: str, policy: CallPolicy) -> Any:
    """The result of the last response that `start` makes; the ones before it are its inputs.

    Losses of replicas, nodes and objects are tried again, errors of ours never. All responses of a try that did
    not succeed are cancelled: cancelling the last one would leave its inputs running.
    """
    for attempt in range(1, policy.tries + 1):
        responses = start()
        try:
            async with asyncio.timeout(policy.limit_s) as limit:
                return await responses[-1]
        except asyncio.CancelledError:
            await _cancel(responses)
            raise
        except Exception as error:
            await _cancel(responses)
            if limit.expired():
                raise CapacityTimeout(
                    f"{what} found no free replica within {policy.limit_s:g} s: add capacity (max_replicas, nodes) or "
                    "raise `runner.capacity_wait_s`"
                ) from error
            if typed(error) is not None or not is_loss(error):
                logger.warning("%s failed", what, exc_info=error)
                raise as_service_error(error) from error
            logger.warning("%s lost a replica (try %d of %d): %s", what, attempt, policy.tries, error)
            lost = error
        if attempt < policy.tries:
            await policy.note(
                f"{what} lost a replica and is done again (try {attempt + 1} of {policy.tries})"
            )
            await asyncio.sleep(0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
    times = f"{policy.tries} times" if policy.tries > 1 else "once, and the request wanted no second try"
    raise ReplicasLost(
        f"{what} lost its replica {times}. If memory is short, lower `chunk.max_frames` or `batch`; the logs of the "
        "replicas say more."
    ) from lost


async def _cancel(responses: Sequence[DeploymentResponse[Any]]) -> None:
    """Cancel all, and wait until they have ended, so that nothing is written after the clean-up."""
    for response in responses:
        with suppress(Exception):  # one that has failed already raises its failure here
            response.cancel()
    end = asyncio.ensure_future(responses[-1])
    await asyncio.wait([end], timeout=CANCEL_S)
    if not end.cancel() and not end.cancelled():
        end.exception()  # seen: it ended because it was told to
