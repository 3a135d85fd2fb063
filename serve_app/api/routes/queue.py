"""The queue's routes: submit, status, status stream, result and cancel.

`submit` is at the endpoint's path. The others are below the application's path, which is the endpoint's without its
last segments, and also below the full path, as the vendor's OpenAPI lists them.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serve_app.api.bodies import parse_body, read_body
from serve_app.api.openapi import LOGS, REQUEST_ID, body_of, error_replies, events_of, response
from serve_app.api.queue_schema import CancelAccepted, CancelTooLate, QueueReceipt, QueueStatus
from serve_app.api.results import answer, not_found
from serve_app.api.schema import VideoInput, VideoOutput, check_supported
from serve_app.api.services import Services
from serve_app.api.status import JobUrls, describe, find, position_of, receipt, wants_logs
from serve_app.api.stream import EVENTS, EventStream, follow
from serve_app.api.submission import PARAMETERS, Submission, insert_or_find
from serve_app.errors import ServiceError, to_wire
from serve_app.fal import APP, ENDPOINT, QUEUE
from serve_app.jobs.model import CancelOutcome, NewJob
from serve_app.parsing import InvalidInput, parse_object, validated

STILL_RUNNING = {"detail": "Request is still in progress"}


class QueueRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    def router(self) -> APIRouter:
        router = APIRouter(prefix=QUEUE, tags=["queue"])
        router.add_api_route(
            ENDPOINT,
            self.submit,
            methods=["POST"],
            operation_id="queue_submit",
            summary="Submit a job",
            responses={200: response(QueueReceipt, "Accepted."), **error_replies(400, 422, 429)},
            openapi_extra=body_of(VideoInput, *PARAMETERS),
        )
        for path, suffix in ((APP, ""), (ENDPOINT, "_full_id")):
            self._add_request_routes(router, path + "/requests/{request_id}", suffix)
        return router

    def _add_request_routes(self, router: APIRouter, path: str, suffix: str) -> None:
        named = {"parameters": [REQUEST_ID]}
        logged = {"parameters": [REQUEST_ID, LOGS]}
        router.add_api_route(
            path + "/status",
            self.status,
            methods=["GET"],
            operation_id="queue_status" + suffix,
            summary="Get the status of a job",
            responses={
                200: response(QueueStatus, "The job has ended."),
                202: response(QueueStatus, "The job is queued or running."),
                **error_replies(404),
            },
            openapi_extra=logged,
        )
        # Where the `fal` SDK asks; there are no redirects.
        router.add_api_route(path + "/status/", self.status, methods=["GET"], include_in_schema=False)
        router.add_api_route(path + "/", self.result, methods=["GET"], include_in_schema=False)
        router.add_api_route(
            path + "/status/stream",
            self.stream,
            methods=["GET"],
            operation_id="queue_status_stream" + suffix,
            summary="Stream the status of a job",
            response_class=StreamingResponse,
            responses={
                200: {
                    "content": {EVENTS: {"itemSchema": events_of(QueueStatus)}},
                    "description": "Status objects as server-sent events.",
                },
                **error_replies(404),
            },
            openapi_extra=logged,
        )
        for tail, name in (("", "queue_result"), ("/response", "queue_response")):
            router.add_api_route(
                path + tail,
                self.result,
                methods=["GET"],
                operation_id=name + suffix,
                summary="Get the result of a job",
                responses={
                    200: response(VideoOutput, "The output."),
                    **error_replies(400, 404, 422, 499, 503, 504),
                },
                openapi_extra=named,
            )
        router.add_api_route(
            path + "/cancel",
            self.cancel,
            methods=["PUT"],
            operation_id="queue_cancel" + suffix,
            summary="Cancel a job",
            status_code=202,
            responses={
                202: response(CancelAccepted, "Cancelled."),
                **error_replies(404),
                400: response(CancelTooLate, "The job had already ended."),
            },
            openapi_extra=named,
        )

    async def submit(self, request: Request) -> Response:
        """Queues the removal of the background of the video at `video_url`.

        Invalid input is accepted too; the job's result is then the validation error.
        """
        submission = Submission.of(request, self._services.urls.base(request))
        limits, quotas = self._services.limits, self._services.quotas
        with quotas.body(submission.account) as taken:
            body = await read_body(request, limits.max_body_bytes, limits.body_s, taken)
            await submission.admit(self._store)
            new = await parse_body(body, self._new_job, submission, request.state.request_id, body)
            job = await insert_or_find(self._store, new, quotas.settings)
        request.state.request_id = job.id
        if not job.state.terminal:
            self._services.notifier.wake()
        position = await position_of(self._store, job)
        return JSONResponse(receipt(job, self._urls(request), position or 0))

    async def status(self, request: Request) -> Response:
        """State, queue position and, if requested, the whole log so far."""
        job = await find(self._store, request)
        if job is None:
            return not_found()
        lines = await self._store.events(job.id) if wants_logs(request) else None
        position = await position_of(self._store, job)
        status = describe(job, self._urls(request), position, lines)
        return JSONResponse(status, 200 if job.state.terminal else 202)

    async def stream(self, request: Request) -> Response:
        """One event at once, then one for each change; the last one when the job ends."""
        job = await find(self._store, request)
        if job is None:
            return not_found()
        events = follow(self._store, job, self._urls(request), wants_logs(request), request)
        return EventStream(events, self._services.quotas.stream(job.account))

    async def result(self, request: Request) -> Response:
        """The output, or the error that ended the job."""
        job = await find(self._store, request)
        if job is None:
            return not_found()
        if not job.state.terminal:
            return JSONResponse(STILL_RUNNING, 400)
        return await answer(self._services, job, request)

    async def cancel(self, request: Request) -> Response:
        """The job ends at once; its runner stops working on it soon after."""
        job = await find(self._store, request)
        outcome = await self._store.request_cancel(job.id) if job else CancelOutcome.UNKNOWN
        if job is None or outcome is CancelOutcome.UNKNOWN:
            return not_found()
        if outcome is CancelOutcome.ALREADY_TERMINAL:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        self._services.notifier.cancel(job.id)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    def _new_job(self, submission: Submission, job_id: str, body: bytes) -> NewJob:
        sent = None
        try:
            sent = parse_object(body)
            video = validated(VideoInput, sent)
            check_supported(video)
        except InvalidInput as error:
            return submission.refused(job_id, sent, body, error.wire)
        except ServiceError as error:
            return submission.refused(job_id, sent, body, to_wire(error))
        return submission.job(job_id, sent, video)

    def _urls(self, request: Request) -> JobUrls:
        return JobUrls(request, self._services.public_url)
