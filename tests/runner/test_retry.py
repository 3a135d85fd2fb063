"""What a failed call means, on the exceptions that Ray and Serve really make."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Generator
from typing import Any, cast

import pytest
from ray.exceptions import ActorDiedError, ObjectLostError, OwnerDiedError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError

from serve_app.errors import (
    CheckpointMissing,
    DecoderCrashed,
    EncoderCrashed,
    InferenceFailed,
    ServiceError,
    UnsupportedVideo,
    to_wire,
)
from serve_app.runner.retry import CallPolicy, as_service_error, call, is_loss, service_error_in


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


class Response:
    """What awaiting a call of Serve gives: an error, or the result."""

    def __init__(self, outcome: Exception | str) -> None:
        self._outcome = outcome

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def cancel(self) -> None: ...


@pytest.mark.parametrize("crash", [DecoderCrashed("SIGSEGV"), EncoderCrashed("SIGKILL")], ids=repr)
async def test_a_crash_costs_a_try_and_is_the_error_of_the_last_one(crash: ServiceError) -> None:
    notes: list[str] = []

    async def note(line: str) -> None:
        notes.append(line)

    policy = CallPolicy(60.0, note, tries=2)
    outcomes: list[Exception | str] = [wrapped(crash), "done"]
    assert await call(lambda: [cast(Any, Response(outcomes.pop(0)))], "chunk 1", policy) == "done"
    assert notes == ["chunk 1 lost a media process: retrying (attempt 2 of 2)"]
    with pytest.raises(type(crash)):
        await call(lambda: [cast(Any, Response(wrapped(crash)))], "chunk 1", CallPolicy(60.0, note, tries=1))
