"""Stage calls that are tried again after losses, and what their failures mean.

A failure is our own error, a loss that another try can mend, or neither. Serve wraps what happens upstream in a chain
(`RayServeException` around `RayTaskError` around the cause), so the whole chain of causes is looked at, our own errors
first.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError
from ray.serve.handle import DeploymentResponse

from serve_app.errors import CapacityTimeout, InferenceFailed, ReplicasLost, ServiceError

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

TRIES = 3
CANCEL_S = 10.0  # how long a cancelled call may take to end before it is left behind
LOSSES = (
    RayActorError,
    ObjectLostError,
    NodeDiedError,
    WorkerCrashedError,
    OutOfMemoryError,
    BackPressureError,
    ReplicaUnavailableError,
)


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


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything it was caused by, outermost first."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending.append(getattr(current, "cause", None) if isinstance(current, RayTaskError) else None)
        pending.append(current.__cause__)
        pending.append(current.__context__)


def typed(error: BaseException) -> ServiceError | None:
    """Our own error inside `error`, as a plain instance of its class (Ray mixes its own class in)."""
    for cause in causes(error):
        if isinstance(cause, RayTaskError) and isinstance(cause.cause, ServiceError):
            return cause.cause
        if isinstance(cause, ServiceError) and not isinstance(cause, RayTaskError):
            return cause
    return None


def is_loss(error: BaseException) -> bool:
    """Whether a replica, node or object was lost: trying again is safe, chunks are idempotent."""
    return any(isinstance(cause, LOSSES) for cause in causes(error))


def as_service_error(error: BaseException) -> ServiceError:
    """Any failure as one of ours; what was not foreseen is an internal error."""
    own = typed(error)
    if own is not None:
        return own
    return InferenceFailed(
        f"an unforeseen error ended the job: {type(error).__name__}. The log has the details."
    )
