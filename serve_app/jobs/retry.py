"""What a failed stage call means: our own error, a loss that another try can mend, or neither.

Serve wraps what happens upstream in a chain (`RayServeException` around `RayTaskError` around the cause), so
the whole chain of causes is looked at, our own errors first.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError

from serve_app.errors import InferenceFailed, ServiceError

LOSSES = (
    RayActorError,
    ObjectLostError,
    NodeDiedError,
    WorkerCrashedError,
    OutOfMemoryError,
    BackPressureError,
    ReplicaUnavailableError,
)


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
