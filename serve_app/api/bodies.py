"""Request bodies: read up to a limit, and cut down to what a job's row may keep of them."""

from __future__ import annotations

from typing import Any

import pydantic_core
from starlette.requests import Request

from serve_app.errors import FileTooLarge

LONGEST_URI = 1024  # characters of a data URI that are kept whole
HEAD = 64
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


def keepable(value: Any) -> Any:
    """JSON that the job table can hold: long data URIs cut, infinities (1e999 is valid JSON) null; None when it is
    still too large.
    """
    text = pydantic_core.to_json(_shortened(value), inf_nan_mode="null")
    return pydantic_core.from_json(text) if len(text) <= LARGEST else None


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST_URI and value[:5].lower() == "data:":
            return f"{value[:HEAD]}…({len(value.encode())} bytes)"
        return value
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list) else value
