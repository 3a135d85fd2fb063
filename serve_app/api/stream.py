"""`…/status/stream`: the status as server-sent events, one for each change, until the job ends.

Heartbeats are comments, since clients parse every event. Clients concatenate the `logs` of the events, so each event
carries only new lines. The last event is the complete COMPLETED object.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve_app.api.status import JobUrls, describe, position_of
from serve_app.jobs.model import Event, Job, JobState, Progress
from serve_app.jobs.store import JobRequests

POLL_S = 0.25
PING_S = 10.0
EVENTS = "text/event-stream"
PING = b": ping\n\n"
# Proxies must neither cache nor buffer the events.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Sends `events` inside the context `counted`, which may refuse before the first one."""

    def __init__(self, events: AsyncIterator[bytes], counted: AbstractContextManager[None]) -> None:
        super().__init__(events, headers=HEADERS, media_type=EVENTS)
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._counted:
            await super().__call__(scope, receive, send)


async def follow(
    store: JobRequests,
    job: Job,
    urls: JobUrls,
    logs: bool,
    request: Request,
    poll_s: float = POLL_S,
    ping_s: float = PING_S,
) -> AsyncIterator[bytes]:
    """Yields the events of `job`, the first at once, until the job ends or the client disconnects."""
    clock = asyncio.get_running_loop().time
    last_line = 0
    last_sent: tuple[JobState, int | None, Progress] | None = None
    last_sent_at = clock()
    while True:
        # The log is read after the state: nothing is added to it once the job has ended.
        lines: list[Event] | None = await store.events(job.id, last_line) if logs else None
        current = (job.state, await position_of(store, job), job.progress)
        if lines or current != last_sent:
            last_sent, last_sent_at = current, clock()
            last_line = lines[-1].number if lines else last_line
            yield b"data: " + json.dumps(describe(job, urls, current[1], lines)).encode() + b"\n\n"
        elif clock() - last_sent_at >= ping_s:
            last_sent_at = clock()
            yield PING
        if job.state.terminal or await request.is_disconnected():
            return
        await asyncio.sleep(poll_s)
        found = await store.get(job.id)
        if found is None:
            return
        job = found
