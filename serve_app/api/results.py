"""The result reply of a job, the same for synchronous requests and for the queue."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.api.replies import reply
from serve_app.api.services import Services
from serve_app.api.status import NOT_FOUND
from serve_app.jobs.model import Job, Json
from serve_app.jobs.names import outputs_of
from serve_app.jobs.output import data_uri, output_of
from serve_app.jobs.request import JobResult

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


async def answer(services: Services, job: Job, request: Request) -> Response:
    """Returns the output or the error of a finished job, or 404 if its result has expired."""
    if job.error is not None:
        return reply(job.error)
    if job.result is None:
        return not_found()
    result = JobResult.from_json(job.result)
    if result.inline:
        return await _answer_inline(services, job, result)

    def output() -> Json:
        return output_of(result, lambda file: services.urls.of(file.name, request))

    # Signing a bucket's URL may first have to fetch credentials.
    return JSONResponse(output() if services.artifacts.is_local else await asyncio.to_thread(output))


def not_found() -> Response:
    """The job does not exist, or its result has expired."""
    return JSONResponse(NOT_FOUND, 404)


async def _answer_inline(services: Services, job: Job, result: JobResult) -> Response:
    """Returns the files as data URIs to the first request, then deletes them and the result."""
    if job.result_taken:
        return not_found()
    artifacts = services.artifacts
    try:  # before the result is taken, so that a failed read can be retried
        output = await asyncio.to_thread(output_of, result, lambda file: data_uri(artifacts, file))
    except FileNotFoundError:  # expired, or taken by a concurrent request
        return not_found()
    if not await services.store.take_result(job.id):
        return not_found()
    try:
        await asyncio.to_thread(artifacts.delete_prefix, outputs_of(job.id))
        await services.store.forget_result(job.id)
    except Exception:
        logger.warning(
            "could not delete the files of job %s; they remain until they expire", job.id, exc_info=True
        )
    return JSONResponse(output)
