"""The platform's routes: an account's request history, and the deletion of payloads."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from serve_app.api.endpoint_id import PARAMETER, UNKNOWN, unknown_endpoint
from serve_app.api.history_page import FILTERS, page_of
from serve_app.api.openapi import REQUEST_ID, error_replies, response
from serve_app.api.replies import RequestError
from serve_app.api.results import not_found
from serve_app.api.services import Services
from serve_app.api.status import find
from serve_app.api.submission import account_of
from serve_app.errors import StorageUnavailable
from serve_app.fal import ENDPOINT_ID
from serve_app.jobs.model import Job, JobState, Json
from serve_app.jobs.names import outputs_of
from serve_app.jobs.output import output_of
from serve_app.jobs.request import JobResult

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

REQUESTS = "/v1/models/requests"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Accepted but not needed: deletion is idempotent.",
    "schema": {"type": "string", "maxLength": 255},
}


class HistoryItem(BaseModel):
    """One request. Times are ISO 8601 with offset; null values are not known yet or not kept."""

    request_id: str
    endpoint_id: str
    sent_at: str
    started_at: str | None
    ended_at: str | None
    status_code: int | None = Field(description="HTTP status of the result.")
    duration: float | None = Field(description="Seconds from start to end.")
    json_input: dict[str, Any] | None = Field(description="Null unless requested with expand=payloads.")
    json_output: dict[str, Any] | None = Field(
        description="Null unless requested, and for sync_mode, whose results are not kept."
    )


class HistoryReply(BaseModel):
    """A page of requests, newest first."""

    items: list[HistoryItem]
    next_cursor: str | None
    has_more: bool


class Deleted(BaseModel):
    """A file, and why it could not be deleted (null if it was)."""

    link: str
    exception: str | None


class DeletedPayloads(BaseModel):
    """The request's output files. If any has an exception, the payloads were kept: repeat the request."""

    cdn_delete_results: list[Deleted]


class HistoryRoutes:
    """The routes. An account sees only its own requests."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        router = APIRouter(prefix=REQUESTS, tags=["platform"])
        router.add_api_route(
            "/by-endpoint",
            self.history,
            methods=["GET"],
            operation_id="requests_by_endpoint",
            summary="List past requests",
            responses={200: response(HistoryReply, "A page of requests."), **error_replies(400), **UNKNOWN},
            openapi_extra={"parameters": [PARAMETER, *FILTERS]},
        )
        router.add_api_route(
            "/{request_id}/payloads",
            self.delete,
            methods=["DELETE"],
            operation_id="delete_request_payloads",
            summary="Delete the payloads of a request",
            responses={
                200: response(DeletedPayloads, "Deleted."),
                403: response(RequestError, "Not an admin key."),
                409: response(RequestError, "The request has not ended."),
                **error_replies(404),
            },
            openapi_extra={"parameters": [REQUEST_ID, IDEMPOTENCY_KEY]},
        )
        return router

    async def history(self, request: Request) -> Response:
        """Newest first, by the time of sending; `ended_at` is null until a request has ended."""
        if (unknown := unknown_endpoint(request)) is not None:
            return unknown
        page = page_of(request)
        # The page has one job more than is shown, to know whether more follow.
        jobs = await self._services.store.history(page)
        shown = jobs[: page.limit - 1]
        more = len(jobs) > len(shown)
        items = [self._item(job, page.payloads, request) for job in shown]
        cursor = str(shown[-1].number) if more else None
        return JSONResponse({"items": items, "next_cursor": cursor, "has_more": more})

    async def delete(self, request: Request) -> Response:
        """Deletes input, output and output files of a finished request, but not its input file.

        The request stays in the history; its result is then not found. Repeating the call does no harm.
        """
        job = await find(self._services.store, request)
        if job is None:
            return not_found()
        if account_of(request) is not None and not request.scope["state"].get("admin"):
            raise HTTPException(403, "Only an admin key can delete payloads.")
        if not job.state.terminal:
            raise HTTPException(409, "The request has not ended. Wait for it to end or cancel it first.")
        files = _files(job)
        remaining = await asyncio.to_thread(self._delete_files, job.id, files)
        if not remaining:
            await self._services.store.forget_payloads(job.id)
        links = [(self._services.urls.of(name, request), remaining.get(name)) for name in files]
        return JSONResponse({"cdn_delete_results": [{"link": a, "exception": b} for a, b in links]})

    def _delete_files(self, job_id: str, names: list[str]) -> dict[str, str]:
        """Deletes the files of a job and returns those that remain, with the reason.

        Files are deleted before the payloads that name them, so that a failed deletion can be repeated.
        """
        artifacts = self._services.artifacts
        try:
            artifacts.delete_prefix(outputs_of(job_id))
            remaining = [name for name in names if artifacts.exists(name)]
        except StorageUnavailable:
            logger.exception("could not delete the files of job %s", job_id)
            remaining = names
        return dict.fromkeys(remaining, "The file could not be deleted. Try again later.")

    def _item(self, job: Job, payloads: bool, request: Request) -> Json:
        duration = None
        if job.started_at is not None and job.finished_at is not None:
            duration = round(job.finished_at - job.started_at, 3)
        return {
            "request_id": job.id,
            "endpoint_id": ENDPOINT_ID,
            "sent_at": _iso(job.created_at),
            "started_at": _iso(job.started_at),
            "ended_at": _iso(job.finished_at),
            "status_code": _status(job),
            "duration": duration,
            "json_input": job.payload,
            "json_output": self._output(job, request) if payloads else None,
        }

    def _output(self, job: Job, request: Request) -> Json | None:
        if job.error is not None:
            return job.error.body
        if job.result is None:
            return None
        result = JobResult.from_json(job.result)
        return None if result.inline else output_of(result, lambda f: self._services.urls.of(f.name, request))


def _files(job: Job) -> list[str]:
    if job.result is None:
        return []
    result = JobResult.from_json(job.result)
    return [result.video.name, *([result.mask_video.name] if result.mask_video else [])]


def _iso(at: float | None) -> str | None:
    """The last millisecond that is not after `at`: as `start` of a query it includes `at`, as `end` it does not.

    `datetime.fromtimestamp` rounds to the nearest microsecond, which can be the first of the next millisecond.
    """
    if at is None:
        return None
    milliseconds = round(at * 1000)
    if milliseconds / 1000 > at:
        milliseconds -= 1
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


def _status(job: Job) -> int | None:
    if job.error is not None:
        return job.error.status
    return 200 if job.state is JobState.COMPLETED else None
