"""Request bodies: read up to a limit, and parsed in a thread when they are large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from serve_app.errors import FileTooLarge

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 1 << 20  # bytes of a body that take a while to parse


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; `FileTooLarge` as soon as it is longer than `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise FileTooLarge(
                f"The request is larger than {limit} bytes. Give video_url as an http(s) URL.",
                context={"max_size": limit},
            )
        parts.append(part)
    return b"".join(parts)


async def beside(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` makes of a body; of a large one in a thread, beside the requests of others."""
    if len(body) < LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
