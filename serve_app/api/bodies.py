"""Request bodies: read up to a limit, and cut down to what a job's row may keep of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pydantic_core
from starlette.requests import Request

from serve_app.errors import FileTooLarge

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_URI = 1024  # characters of a data URI that are kept whole
HEAD = 64
LARGE = 1 << 20  # bytes of a body that take a while to parse
LARGEST = 64 << 10  # bytes of JSON; readers load them with every look at the row


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; `FileTooLarge` as soon as it is longer than `limit`."""
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


def keepable(value: Any) -> Any:
    """JSON that the job table can hold: long data URIs cut, infinities (1e999 is valid JSON) null, U+0000 (which
    Postgres takes and cannot read) replaced; None when it is still too large.
    """
    text = pydantic_core.to_json(_shortened(value), inf_nan_mode="null")
    return pydantic_core.from_json(text) if len(text) <= LARGEST else None


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST_URI and value[:5].lower() == "data:":
            value = f"{value[:HEAD]}…({len(value.encode())} bytes)"
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_shortened(key): _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list) else value
