"""`POST …/v2/video`: a synchronous request inserts a job and waits for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve_app.api.bodies import parse_body, read_body
from serve_app.api.openapi import body_of, error_replies, response
from serve_app.api.results import answer
from serve_app.api.schema import VideoInput, VideoOutput, check_supported
from serve_app.api.services import Services
from serve_app.api.submission import PARAMETERS, Submission, insert_or_find
from serve_app.errors import JobCancelled, ServiceError, TooManyWaiting
from serve_app.fal import ENDPOINT
from serve_app.jobs.model import Job, NewJob
from serve_app.parsing import parse_object, validated

T = TypeVar("T")

FIRST_POLL_S = 0.02
MAX_POLL_S = 0.25
POLL_GROWTH = 1.5


class RunRoutes:
    """The synchronous routes. One object per process, since it counts the waiting requests."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def router(self) -> APIRouter:
        """Serves the operation at the vendor's path and below `/run`, for clients that map hosts to prefixes."""
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
        """Removes the background of the video at `video_url`."""
        submission = Submission.of(request, self._services.urls.base(request))
        with self._waiting_slot():  # covers reading the body, which may be large
            job = await self._accept(submission, request)
            job = await self._run(job, submission, request)
        return await answer(self._services, job, request)

    def _new_job(self, submission: Submission, job_id: str, body: bytes) -> NewJob:
        sent = parse_object(body)
        video = validated(VideoInput, sent)
        check_supported(video)
        return submission.job(job_id, sent, video)

    @contextmanager
    def _waiting_slot(self) -> Iterator[None]:
        """Limits waiting requests, which would otherwise starve status calls. Raises `TooManyWaiting`."""
        if self._waiting >= self._services.limits.max_waiting:
            raise TooManyWaiting("Too many requests are waiting for their results. Try again later.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _accept(self, submission: Submission, request: Request) -> Job:
        """Reads the body and inserts its job. Nothing keeps the body, which may be large, while the job runs."""
        store, limits, quotas = self._services.store, self._services.limits, self._services.quotas
        with quotas.body(submission.account) as taken:
            body = await read_body(request, limits.max_body_bytes, limits.body_s, taken)
            new = await parse_body(body, self._new_job, submission, request.state.request_id, body)
            await submission.admit(store)
            inserted = self._spawn(insert_or_find(store, new, quotas.settings))
            try:
                return await asyncio.shield(inserted)
            except asyncio.CancelledError:
                if submission.key is None:
                    # An insert in progress cannot be revoked; its job has to be cancelled once it exists.
                    await asyncio.shield(self._spawn(self._abandon(inserted)))
                raise

    async def _run(self, job: Job, submission: Submission, request: Request) -> Job:
        """Waits for the end of a job.

        If the client disconnects, the job is cancelled, unless it has an idempotency key: then the client may return
        for its result.
        """
        request.state.request_id = job.id
        self._services.notifier.wake()
        try:
            return await self._wait(job.id, request)
        except BaseException:  # disconnected or failed: no request waits for the job any more
            if submission.key is None:
                await asyncio.shield(self._spawn(self._cancel(job.id)))
            raise

    async def _wait(self, job_id: str, request: Request) -> Job:
        pause = FIRST_POLL_S
        while True:
            job = await self._services.store.get(job_id)
            if job is None:
                raise ServiceError("The request's record was deleted while it ran.")
            if job.state.terminal:
                return job
            # Serve cancels the handler when a client disconnects; plain ASGI servers have to be asked.
            if await request.is_disconnected():
                raise JobCancelled("The client closed the connection.")
            await asyncio.sleep(pause)
            pause = min(pause * POLL_GROWTH, MAX_POLL_S)

    async def _abandon(self, inserted: asyncio.Task[Job]) -> None:
        await self._cancel((await inserted).id)

    async def _cancel(self, job_id: str) -> None:
        await self._services.store.request_cancel(job_id)
        self._services.notifier.cancel(job_id)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task that outlives the request; the set keeps it from being garbage-collected."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
