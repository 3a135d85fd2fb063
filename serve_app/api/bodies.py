"""Request bodies: read up to a limit, and parsed in a thread if they are large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from serve_app.errors import FileTooLarge

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 1 << 20  # bytes; parsing more would block the event loop


async def read_body(request: Request, limit: int) -> bytes:
    """Reads the whole body. Raises `FileTooLarge` once it exceeds `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise FileTooLarge(
                f"The request is larger than {limit} bytes. Pass video_url as an http(s) URL.",
                context={"max_size": limit},
            )
        parts.append(part)
    return b"".join(parts)


async def parse_body(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `work`, which parses `body`; in a thread if the body is large, so that other requests proceed."""
    if len(body) < LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
