"""`…/status/stream`: the status as server-sent events, one for each change, until the job is over.

Heartbeats are comments: clients parse every event. Clients also join the `logs` of the events, so that each event
carries new lines only. The last event is the whole COMPLETED object.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.requests import Request

from serve_app.api.status import Addresses, describe, position_of
from serve_app.jobs.model import Event, Job, JobState, Progress
from serve_app.jobs.store import JobRequests

LOOK_S = 0.25
PING_S = 10.0
EVENTS = "text/event-stream"
PING = b": ping\n\n"
# Nothing on the way may keep or collect the events.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def follow(
    store: JobRequests,
    job: Job,
    addresses: Addresses,
    logs: bool,
    request: Request,
    look_s: float = LOOK_S,
    ping_s: float = PING_S,
) -> AsyncIterator[bytes]:
    """The events of `job`, the first at once; ends with the job, or when the client has gone."""
    clock = asyncio.get_running_loop().time
    seen = 0
    told: tuple[JobState, int | None, Progress] | None = None
    spoke = clock()
    while True:
        # The log is read after the state: once the job is over, nothing is added to it.
        lines: list[Event] | None = await store.events(job.id, seen) if logs else None
        standing = (job.state, await position_of(store, job), job.progress)
        if lines or standing != told:
            told, spoke = standing, clock()
            seen = lines[-1].number if lines else seen
            yield b"data: " + json.dumps(describe(job, addresses, standing[1], lines)).encode() + b"\n\n"
        elif clock() - spoke >= ping_s:
            spoke = clock()
            yield PING
        if job.state.terminal or await request.is_disconnected():
            return
        await asyncio.sleep(look_s)
        found = await store.get(job.id)
        if found is None:
            return
        job = found
