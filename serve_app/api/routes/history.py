"""The platform's routes: the history of an account's requests, and the removal of what they said and made."""

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
from serve_app.api.results import gone
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
    "description": "Not needed: asking twice does no harm.",
    "schema": {"type": "string", "maxLength": 255},
}


class HistoryItem(BaseModel):
    """One request. Times are ISO 8601 with offset; null is what has not come yet, or is not kept."""

    request_id: str
    endpoint_id: str
    sent_at: str
    started_at: str | None
    ended_at: str | None
    status_code: int | None = Field(description="Of the result.")
    duration: float | None = Field(description="Seconds from start to end.")
    json_input: dict[str, Any] | None = Field(description="Null unless asked for by expand=payloads.")
    json_output: dict[str, Any] | None = Field(
        description="Null unless asked for; also null for sync_mode, whose results are not kept."
    )


class HistoryReply(BaseModel):
    """A page of requests, newest first."""

    items: list[HistoryItem]
    next_cursor: str | None
    has_more: bool


class Deleted(BaseModel):
    """A file, and what kept it from being deleted."""

    link: str
    exception: str | None


class DeletedPayloads(BaseModel):
    """The output files of the request. Ask again for those with an exception: then nothing was removed."""

    cdn_delete_results: list[Deleted]


class Platform:
    """The routes. An account sees its own requests alone."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def router(self) -> APIRouter:
        router = APIRouter(prefix=REQUESTS, tags=["platform"])
        router.add_api_route(
            "/by-endpoint",
            self.history,
            methods=["GET"],
            operation_id="requests_by_endpoint",
            summary="The requests of the past",
            responses={200: response(HistoryReply, "A page."), **error_replies(400), **UNKNOWN},
            openapi_extra={"parameters": [PARAMETER, *FILTERS]},
        )
        router.add_api_route(
            "/{request_id}/payloads",
            self.delete,
            methods=["DELETE"],
            operation_id="delete_request_payloads",
            summary="Remove what a request said and made",
            responses={
                200: response(DeletedPayloads, "Removed."),
                403: response(RequestError, "The key is not an admin's."),
                409: response(RequestError, "The request is not over."),
                **error_replies(404),
            },
            openapi_extra={"parameters": [REQUEST_ID, IDEMPOTENCY_KEY]},
        )
        return router

    async def history(self, request: Request) -> Response:
        """Newest first, by the time they were sent; those that are not over have no `ended_at`."""
        if (unknown := unknown_endpoint(request)) is not None:
            return unknown
        page = page_of(request)
        # One more than is shown, to know whether there are more.
        jobs = await self._services.store.history(page)
        shown = jobs[: page.limit - 1]
        more = len(jobs) > len(shown)
        items = [self._item(job, page.payloads, request) for job in shown]
        cursor = str(shown[-1].number) if more else None
        return JSONResponse({"items": items, "next_cursor": cursor, "has_more": more})

    async def delete(self, request: Request) -> Response:
        """Removes input and output of a request that is over, and its output files; not its input file.

        The request stays in the history, and its result is no longer there. Asking twice does no harm.
        """
        job = await find(self._services.store, request)
        if job is None:
            return gone()
        if account_of(request) is not None and not request.scope["state"].get("admin"):
            raise HTTPException(403, "Only an admin key removes payloads.")
        if not job.state.terminal:
            raise HTTPException(409, "The request is not over. Wait for its end, or cancel it first.")
        files = _files(job)
        left = await asyncio.to_thread(self._delete_files, job.id, files)
        if not left:
            await self._services.store.forget_payloads(job.id)
        links = [(self._services.urls.of(name, request), left.get(name)) for name in files]
        return JSONResponse({"cdn_delete_results": [{"link": a, "exception": b} for a, b in links]})

    def _delete_files(self, job_id: str, names: list[str]) -> dict[str, str]:
        """What could not be deleted, with the reason. Files go before the row that names them, so that they can be
        asked for again.
        """
        artifacts = self._services.artifacts
        try:
            artifacts.delete_prefix(outputs_of(job_id))
            left = [name for name in names if artifacts.exists(name)]
        except StorageUnavailable:
            logger.exception("the files of job %s cannot be deleted", job_id)
            left = names
        return dict.fromkeys(left, "The file could not be deleted. Try again later.")

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
        """What the result says."""
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
