"""What a failed call means, on the exceptions that Ray and Serve really make."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from ray.exceptions import ActorDiedError, ObjectLostError, OwnerDiedError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError

from serve_app.errors import (
    CapacityTimeout,
    CheckpointMissing,
    DecoderCrashed,
    EncoderCrashed,
    InferenceFailed,
    ReplicasLost,
    ServiceError,
    UnsupportedVideo,
    to_wire,
)
from serve_app.runner.retry import (
    Attempt,
    CallPolicy,
    as_service_error,
    call,
    is_loss,
    service_error_in,
)


def wrapped(cause: Exception) -> Exception:
    """As an exception of a replica arrives: mixed with its own class."""
    error: Exception = RayTaskError("decode", "traceback", cause).as_instanceof_cause()
    return error


def upstream(cause: BaseException) -> RayServeException:
    """As the failure of an input arrives from the call that waited for it."""
    error = RayServeException("an upstream actor died")
    error.__cause__ = cause
    return error


LOST = ObjectLostError("00", "owner", "site")


@pytest.mark.parametrize(
    "error",
    [ActorDiedError(), upstream(wrapped(ActorDiedError())), LOST, upstream(LOST), BackPressureError(1, 2)],
    ids=repr,
)
def test_losses_are_tried_again(error: Exception) -> None:
    assert is_loss(error)
    assert service_error_in(error) is None


def test_a_dead_owner_is_a_loss() -> None:
    assert issubclass(OwnerDiedError, ObjectLostError)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(ValueError("a bug")),
        RayServeException("no such method"),
        RequestCancelledError("id"),
        TaskCancelledError(),
    ],
    ids=repr,
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    assert not is_loss(error)
    assert isinstance(as_service_error(error), InferenceFailed)


@pytest.mark.parametrize("own", [UnsupportedVideo("no video", context={"a": 1}), CheckpointMissing("gone")])
def test_our_own_errors_come_first_and_plain(own: ServiceError) -> None:
    for error in (own, wrapped(own), upstream(wrapped(own))):
        found = service_error_in(error)
        assert type(found) is type(own)
        assert found is not None
        assert (found.message, found.field, found.context) == (own.message, own.field, own.context)
        assert to_wire(as_service_error(error)) == to_wire(own)


def test_our_errors_cross_processes() -> None:
    error = UnsupportedVideo("no video", context={"supported_formats": ["mp4"]})
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.message, back.field, back.context) == (
        UnsupportedVideo,
        "no video",
        "video_url",
        {"supported_formats": ["mp4"]},
    )


@pytest.mark.parametrize("crash", [DecoderCrashed("SIGSEGV"), EncoderCrashed("SIGKILL")], ids=repr)
async def test_a_crash_costs_a_try_and_is_the_error_of_the_last_one(crash: ServiceError) -> None:
    notes: list[str] = []
    outcomes: list[Exception | str] = [wrapped(crash), "done"]

    async def work(attempt: Attempt) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def note(line: str) -> None:
        notes.append(line)

    policy = CallPolicy(60.0, note, tries=2)
    assert await call(work, "chunk 1", policy) == "done"
    assert notes == ["chunk 1 lost a media process: retrying (attempt 2 of 2)"]
    outcomes.append(wrapped(crash))
    with pytest.raises(type(crash)):
        await call(work, "chunk 1", CallPolicy(60.0, note, tries=1))


async def unnoted(line: str) -> None:
    """For policies whose notes do not matter."""


async def test_the_time_limit_excludes_the_wait_for_other_jobs() -> None:
    turn = asyncio.Event()

    async def work(attempt: Attempt) -> str:
        with attempt.paused():
            await turn.wait()
        return "done"

    task = asyncio.create_task(call(work, "chunk 0", CallPolicy(0.01, unnoted)))
    await asyncio.sleep(0.05)  # longer than the limit: it must not have run out
    turn.set()
    assert await task == "done"


async def test_the_time_limit_begins_anew_after_a_wait() -> None:
    async def work(attempt: Attempt) -> None:
        with attempt.paused():
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    with pytest.raises(CapacityTimeout, match=r"no free replica within 0\.01 s"):
        await call(work, "chunk 0", CallPolicy(0.01, unnoted))


async def test_a_loss_is_tried_again_as_often_as_the_policy_says() -> None:
    tries = 0

    async def work(attempt: Attempt) -> None:
        nonlocal tries
        tries += 1
        raise ActorDiedError

    with pytest.raises(ReplicasLost, match="lost its replica 2 times"):
        await call(work, "chunk 0", CallPolicy(60.0, unnoted, tries=2))
    assert tries == 2
