"""Status objects of the queue, and the lookup of a job for the requesting account."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from serve_app.api.submission import account_of
from serve_app.api.urls import base_url
from serve_app.errors import WireError
from serve_app.fal import APP, QUEUE
from serve_app.jobs.model import Event, Job, JobState, Json
from serve_app.jobs.store import JobRequests

NOT_FOUND = {"status": "NOT_FOUND"}

# The wire has three states; failed and cancelled jobs are COMPLETED with an error.
WIRE_STATES = {JobState.QUEUED: "IN_QUEUE", JobState.RUNNING: "IN_PROGRESS"}
_ID = re.compile(r"[0-9a-f-]{36}")


async def find(store: JobRequests, request: Request) -> Job | None:
    """Returns the job that the path names if it belongs to the requesting account, and makes its id the request id."""
    job_id = request.path_params["request_id"]
    job = await store.get(job_id) if _ID.fullmatch(job_id) else None
    if job is None or job.account != account_of(request):
        return None
    request.scope["state"]["request_id"] = job.id
    return job


class JobUrls:
    """URLs of jobs, as the client of one request reaches them."""

    def __init__(self, request: Request, public_url: str | None) -> None:
        self._base = base_url(request, QUEUE, public_url) + APP

    def of(self, job_id: str) -> dict[str, str]:
        url = f"{self._base}/requests/{job_id}"
        return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}


def receipt(job: Job, urls: JobUrls, position: int) -> Json:
    """The reply to a submit. It always says IN_QUEUE, even for a job that is already further on."""
    return {
        "status": "IN_QUEUE",
        "queue_position": position,
        "request_id": job.id,
        "gateway_request_id": job.id,
        **urls.of(job.id),
        "logs": None,
        "metrics": {},
    }


def describe(job: Job, urls: JobUrls, position: int | None, lines: Sequence[Event] | None) -> Json:
    """The status object. `position` is None unless the job is queued; `lines` is None unless logs were requested."""
    status: Json = {"status": WIRE_STATES.get(job.state, "COMPLETED")}
    if position is not None:
        status["queue_position"] = position
    status |= {"request_id": job.id, **urls.of(job.id)}
    status["logs"] = None if lines is None else [_line(line) for line in lines]
    status["metrics"] = _metrics(job)
    if job.state is JobState.RUNNING and job.progress.stage:
        status["progress"] = asdict(job.progress)
    if job.error is not None:
        status["error"], status["error_type"] = _summary(job.error)
    return status


def wants_logs(request: Request) -> bool:
    return request.query_params.get("logs", "").lower() in ("1", "true")


async def position_of(store: JobRequests, job: Job) -> int | None:
    return await store.position(job) if job.state is JobState.QUEUED else None


def _line(event: Event) -> dict[str, str]:
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="microseconds")
    return {"message": event.message, "level": event.level.value, "source": "USER", "timestamp": at}


def _metrics(job: Job) -> dict[str, float]:
    if job.state is not JobState.COMPLETED or job.started_at is None or job.finished_at is None:
        return {}
    return {"inference_time": round(job.finished_at - job.started_at, 3)}


def _summary(error: WireError) -> tuple[str, str]:
    """Message and type of an error."""
    detail: Any = error.body["detail"]
    if isinstance(detail, str):
        return detail, error.body.get("error_type") or error.body["type"]
    return f"Invalid status code: {error.status}", detail[0]["type"]
