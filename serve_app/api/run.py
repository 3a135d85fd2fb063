"""`POST …/v2/video`: a synchronous request is a job, and somebody who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serve_app.api import ENDPOINT
from serve_app.api.errors import ModelError, RequestError, parse_input, reply
from serve_app.api.openapi import body_of
from serve_app.api.schema import VideoFile, VideoInput, VideoOutput, check_supported
from serve_app.api.services import Services
from serve_app.api.urls import data_uri
from serve_app.errors import FileTooLarge, JobCancelled, ServiceError, TooManyWaiting, to_wire
from serve_app.jobs.names import outputs_of
from serve_app.jobs.request import JobResult
from serve_app.jobs.store import Job, NewJob
from serve_app.protocols import MediaFile

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
                response_model=VideoOutput,
                response_model_exclude_none=True,
                responses={
                    422: {"model": ModelError, "description": "The input cannot be used."},
                    429: {"model": RequestError, "description": "Too many requests are waiting."},
                    500: {"model": ModelError, "description": "The work failed."},
                    503: {"model": RequestError, "description": "No capacity."},
                },
                openapi_extra=body_of(VideoInput),
            )
        return router

    async def post(self, request: Request) -> Response:
        """Cut the subject out of every frame of the video at `video_url`."""
        video = parse_input(await self._body(request))
        check_supported(video)
        with self._place():
            job = await self._run(NewJob(request.state.request_id, video.to_request().as_json()), request)
        if video.sync_mode and job.result is not None:
            return await self._answer_inline(job, JobResult.from_json(job.result))
        return self._answer(job, request)

    async def _body(self, request: Request) -> bytes:
        limit = self._services.max_body_bytes
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

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for waiting requests. Without a limit, waiters would starve the status calls."""
        if self._waiting >= self._services.max_waiting:
            raise TooManyWaiting("Too many requests are waiting for their result. Try again later.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _run(self, new: NewJob, request: Request) -> Job:
        """Insert a job and wait for its end. Whoever goes away in between takes the job with him."""
        inserted = self._spawn(self._services.store.insert(new))
        try:
            await asyncio.shield(inserted)
            self._services.hints.wake()
            return await self._wait(new.id, request)
        except BaseException:  # gone, or not to be answered: either way nobody waits for the job
            await asyncio.shield(self._spawn(self._abandon(inserted, new.id)))
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

    async def _abandon(self, inserted: asyncio.Task[None], job_id: str) -> None:
        # An insert that is under way cannot be called back: wait for it, or its job would run for nobody.
        await inserted
        await self._cancel(job_id)

    async def _cancel(self, job_id: str) -> None:
        await self._services.store.request_cancel(job_id)
        self._services.hints.cancel(job_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that outlives the request; the set keeps it from being collected."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _answer(self, job: Job, request: Request) -> Response:
        if job.result is None:
            return reply(
                job.error or to_wire(ServiceError(f"The request ended as {job.state} without a reason."))
            )
        return _reply(
            JobResult.from_json(job.result), lambda file: self._services.urls.of(file.name, request)
        )

    async def _answer_inline(self, job: Job, result: JobResult) -> Response:
        """The files themselves, as data URIs; afterwards neither they nor the result are kept."""
        artifacts = self._services.artifacts
        try:
            return await asyncio.to_thread(_reply, result, lambda file: data_uri(artifacts, file))
        finally:
            await asyncio.to_thread(artifacts.delete_prefix, outputs_of(job.id))
            await self._services.store.forget_result(job.id)


def _reply(result: JobResult, url: Callable[[MediaFile], str]) -> Response:
    mask = result.mask_video
    output = VideoOutput(
        video=VideoFile.of(result.video, url(result.video)),
        mask_video=VideoFile.of(mask, url(mask)) if mask else None,
    )
    return JSONResponse(output.model_dump(mode="json", exclude_none=True))
