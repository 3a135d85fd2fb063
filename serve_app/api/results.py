"""The reply for a job that is over, the same for whoever waited for it and for whoever asks later."""

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
    """The output or the error of `job`; 404 when its result is no longer kept."""
    if job.error is not None:
        return reply(job.error)
    if job.result is None:
        return gone()
    result = JobResult.from_json(job.result)
    if result.inline:
        return await _answer_inline(services, job, result)

    def output() -> Json:
        return output_of(result, lambda file: services.urls.of(file.name, request))

    # A bucket's credentials may have to be fetched before a URL can be signed.
    return JSONResponse(output() if services.artifacts.is_local else await asyncio.to_thread(output))


def gone() -> Response:
    """There is no such job, or its result is no longer kept."""
    return JSONResponse(NOT_FOUND, 404)


async def _answer_inline(services: Services, job: Job, result: JobResult) -> Response:
    """The files themselves, as data URIs, for the first who asks; afterwards neither they nor the result are kept."""
    if job.result_taken:
        return gone()
    artifacts = services.artifacts
    try:  # read before the result is taken: what fails here may be asked for again
        output = await asyncio.to_thread(output_of, result, lambda file: data_uri(artifacts, file))
    except FileNotFoundError:  # their time was over, or somebody else was faster
        return gone()
    if not await services.store.take_result(job.id):
        return gone()
    try:
        await asyncio.to_thread(artifacts.delete_prefix, outputs_of(job.id))
        await services.store.forget_result(job.id)
    except Exception:
        logger.warning("the files of job %s stay until they expire", job.id, exc_info=True)
    return JSONResponse(output)
