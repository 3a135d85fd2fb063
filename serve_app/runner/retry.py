"""Retries stage calls after the loss of replicas, and classifies their failures.

A failure is a `ServiceError`, a loss worth a retry, or unexpected. Serve wraps upstream errors (`RayServeException`
around `RayTaskError` around the cause), so the whole chain of causes is searched, first for a `ServiceError`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

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

from serve_app.errors import (
    CapacityTimeout,
    DecoderCrashed,
    EncoderCrashed,
    InferenceFailed,
    ReplicasLost,
    ServiceError,
)

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

T = TypeVar("T")

TRIES = 3
CRASHES = (DecoderCrashed, EncoderCrashed)
CANCEL_S = 10.0  # how long to wait for a cancelled call to end
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
    """Limits of a stage call.

    limit_s: time limit of each attempt, including the wait for a replica (the stages limit their own work).
    note: called with a log line before each retry.
    """

    limit_s: float
    note: Callable[[str], Awaitable[None]]
    tries: int = TRIES


@dataclass(slots=True)
class Attempt:
    """One attempt at a chain of stage calls: the responses to cancel if it fails, and its time limit."""

    limit: asyncio.Timeout
    limit_s: float
    responses: list[DeploymentResponse[Any]] = field(default_factory=list)

    def started(self, response: DeploymentResponse[Any]) -> DeploymentResponse[Any]:
        self.responses.append(response)
        return response

    def forget(self, response: DeploymentResponse[Any]) -> None:
        """The value of the response is not needed any more."""
        self.responses.remove(response)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A wait for other jobs, which the time limit excludes: it starts anew afterwards."""
        self.limit.reschedule(None)
        yield
        self.limit.reschedule(asyncio.get_running_loop().time() + self.limit_s)


async def call(work: Callable[[Attempt], Awaitable[T]], what: str, policy: CallPolicy) -> T:
    """Await a chain of stage calls, which `work` starts.

    Retries after the loss of a replica, node, object or media process, but never after another `ServiceError`. Cancels
    all responses of a failed attempt: cancelling only the last one would leave its inputs running.

    Raises `CapacityTimeout`, `ReplicasLost`, or the `ServiceError` of the stage.
    """
    for attempt in range(1, policy.tries + 1):
        limit = asyncio.timeout(policy.limit_s)
        this = Attempt(limit, policy.limit_s)
        try:
            async with limit:
                return await work(this)
        except asyncio.CancelledError:
            await _cancel(this.responses)
            raise
        except Exception as error:
            await _cancel(this.responses)
            if limit.expired():
                raise CapacityTimeout(
                    f"{what} found no free replica within {policy.limit_s:g} s: add capacity (max_replicas, nodes) or "
                    "raise `runner.capacity_wait_s`"
                ) from error
            known = service_error_in(error)
            crashed = isinstance(known, CRASHES)
            if (known is not None or not is_loss(error)) and not (crashed and attempt < policy.tries):
                logger.warning("%s failed", what, exc_info=error)
                raise as_service_error(error) from error
            lost, whom = error, "a media process" if crashed else "a replica"
            logger.warning("%s lost %s (attempt %d of %d): %s", what, whom, attempt, policy.tries, error)
        if attempt < policy.tries:
            await policy.note(f"{what} lost {whom}: retrying (attempt {attempt + 1} of {policy.tries})")
            await asyncio.sleep(0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
    times = f"{policy.tries} times" if policy.tries > 1 else "once, and the request disallows retries"
    raise ReplicasLost(
        f"{what} lost its replica {times}. If memory is short, lower `chunk.max_frames` or `batch`; the logs of the "
        "replicas say more."
    ) from lost


async def _cancel(responses: Sequence[DeploymentResponse[Any]]) -> None:
    """Cancel the responses and wait for them to end, so that none writes files after the clean-up."""
    if not responses:
        return
    for response in responses:
        with suppress(Exception):  # a response that has already failed raises its error
            response.cancel()
    end = asyncio.ensure_future(responses[-1])
    await asyncio.wait([end], timeout=CANCEL_S)
    if not end.cancel() and not end.cancelled():
        end.exception()  # mark the error of the cancelled call as retrieved


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and its causes, outermost first."""
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


def service_error_in(error: BaseException) -> ServiceError | None:
    """The `ServiceError` among the causes of `error`, without the class that Ray mixes in."""
    for cause in causes(error):
        if isinstance(cause, RayTaskError) and isinstance(cause.cause, ServiceError):
            return cause.cause
        if isinstance(cause, ServiceError) and not isinstance(cause, RayTaskError):
            return cause
    return None


def is_loss(error: BaseException) -> bool:
    """Whether a replica, node or object was lost. A retry is safe, as chunks are idempotent."""
    return any(isinstance(cause, LOSSES) for cause in causes(error))


def as_service_error(error: BaseException) -> ServiceError:
    """Convert any failure to a `ServiceError`; an unexpected one becomes `InferenceFailed`."""
    known = service_error_in(error)
    if known is not None:
        return known
    return InferenceFailed(
        f"The job failed with an unexpected error: {type(error).__name__}. See the service's log for details."
    )
