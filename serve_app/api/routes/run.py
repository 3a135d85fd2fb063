"""`POST …/v2/video`: a synchronous request is a job, and somebody who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve_app.api.bodies import beside, read_body
from serve_app.api.openapi import body_of, error_replies, response
from serve_app.api.results import answer
from serve_app.api.schema import VideoInput, VideoOutput, check_supported
from serve_app.api.services import Services
from serve_app.api.submission import PARAMETERS, Submission, enter
from serve_app.errors import JobCancelled, ServiceError, TooManyWaiting
from serve_app.fal import ENDPOINT
from serve_app.jobs.model import Job, NewJob
from serve_app.parsing import parse_object, validated

T = TypeVar("T")

FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.25
GROWTH = 1.5


class Run:
    """The run routes. One object per process: it counts who waits."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def router(self) -> APIRouter:
        """The same operation at the vendor's path and below `/run`, for clients that split hosts by prefix."""
        router = APIRouter(tags=["run"])
        for prefix, name in (("", "run_video"), ("/run", "run_video_prefixed")):
            router.add_api_route(
                prefix + ENDPOINT,
                self.post,
                methods=["POST"],
                name=name,
                operation_id=name,
                summary="Remove the background of a video and wait for the result",
                responses={
                    200: response(VideoOutput, "The output."),
                    **error_replies(400, 404, 422, 429, 499, 503, 504),
                },
                openapi_extra=body_of(VideoInput, *PARAMETERS),
            )
        return router

    async def post(self, request: Request) -> Response:
        """Cut the subject out of every frame of the video at `video_url`."""
        submission = Submission.of(request, self._services.urls.base(request))
        with self._place():  # held while the body is read too: it may be large
            body = await read_body(request, self._services.limits.max_body_bytes)
            new = await beside(body, self._new_job, submission, request.state.request_id, body)
            await submission.admit(self._services.store)
            job = await self._run(new, request)
        return await answer(self._services, job, request)

    def _new_job(self, submission: Submission, job_id: str, body: bytes) -> NewJob:
        sent = parse_object(body)
        video = validated(VideoInput, sent)
        check_supported(video)
        return submission.job(job_id, sent, video)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for waiting requests. Without a limit, waiters would starve the status calls."""
        if self._waiting >= self._services.limits.max_waiting:
            raise TooManyWaiting("Too many requests are waiting for their result. Try again later.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _run(self, new: NewJob, request: Request) -> Job:
        """Insert a job and wait for its end. Whoever goes away in between takes the job with him, unless it has a key:
        then he may come back for it.
        """
        inserted = self._spawn(enter(self._services.store, new))
        try:
            job = await asyncio.shield(inserted)
            request.state.request_id = job.id
            self._services.notifier.wake()
            return await self._wait(job.id, request)
        except BaseException:  # gone, or not to be answered: either way nobody waits for the job
            if new.idempotency_key is None:
                await asyncio.shield(self._spawn(self._abandon(inserted)))
            raise

    async def _wait(self, job_id: str, request: Request) -> Job:
        pause = FIRST_LOOK_S
        while True:
            job = await self._services.store.get(job_id)
            if job is None:
                raise ServiceError("The request is no longer known: its record was deleted while it ran.")
            if job.state.terminal:
                return job
            # Serve cancels the handler of a client that has gone; plain ASGI servers only tell when asked.
            if await request.is_disconnected():
                raise JobCancelled("The client closed the connection.")
            await asyncio.sleep(pause)
            pause = min(pause * GROWTH, LONGEST_LOOK_S)

    async def _abandon(self, inserted: asyncio.Task[Job]) -> None:
        # An insert that is under way cannot be called back: wait for it, or its job would run for nobody.
        job = await inserted
        await self._services.store.request_cancel(job.id)
        self._services.notifier.cancel(job.id)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that outlives the request; the set keeps it from being collected."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
