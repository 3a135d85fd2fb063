"""Request bodies: read up to a limit, in a limited time, and parsed in a thread if they are large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from serve_app.accounts.quotas import BodyBytes
from serve_app.errors import BodyTooSlow, FileTooLarge

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 1 << 20  # bytes; parsing more would block the event loop


async def read_body(request: Request, limit: int, time_s: float, taken: BodyBytes) -> bytes:
    """Reads the whole body. Its declared length is taken from the quota at once, so that none starts that cannot end.

    Raises `FileTooLarge` once it exceeds `limit` bytes, `QuotaExceeded` if the quota does not have them, and
    `BodyTooSlow` if it is not complete after `time_s` seconds.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _check_size(int(declared), limit)
        taken.grow_to(int(declared))
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(time_s):
            async for part in request.stream():
                size += len(part)
                _check_size(size, limit)
                taken.grow_to(size)
                parts.append(part)
    except TimeoutError as error:
        raise BodyTooSlow(
            f"The request's body was not complete after {time_s:g} seconds. Pass video_url as an http(s) URL."
        ) from error
    return b"".join(parts)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise FileTooLarge(
            f"The request is larger than {limit} bytes. Pass video_url as an http(s) URL.",
            context={"max_size": limit},
        )


async def parse_body(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work`, which parses `body`; in a thread if the body is large, so that other requests proceed."""
    if len(body) < LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
