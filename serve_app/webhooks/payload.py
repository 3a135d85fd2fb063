"""The body of a webhook: the job, how it ended, and the result as the API returns it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.model import Job, Json
from serve_app.jobs.output import data_uri, output_of
from serve_app.jobs.request import JobResult

Link = Callable[[str, str], str]  # the URL of an artifact, from its name and the base of such URLs


class PayloadUnavailable(Exception):
    """The body cannot contain the result; the message says why."""


@dataclass(frozen=True, slots=True)
class PayloadBuilder:
    """Builds the bodies of webhooks. `max_inline_bytes`: limit for files that are sent as data URIs."""

    artifacts: Artifacts
    link: Link
    max_inline_bytes: int

    def write(self, job: Job, files_url: str | None) -> bytes:
        """The body for a finished job. May read files: call it in a thread."""
        body: Json = {"request_id": job.id, "gateway_request_id": job.id}
        if job.error is not None:
            body |= {
                "status": "ERROR",
                "error": f"Invalid status code: {job.error.status}",
                "payload": job.error.body,
            }
            return _encode(body)
        try:
            return _encode(body | {"status": "OK", "payload": self._output(job, files_url)})
        except PayloadUnavailable as error:
            return _encode(body | {"status": "OK", "payload": None, "payload_error": str(error)})

    def _output(self, job: Job, files_url: str | None) -> Json:
        if job.result is None:
            raise PayloadUnavailable("The result is no longer kept.")
        result = JobResult.from_json(job.result)
        if result.inline:
            return self._inline(result)
        if files_url is None:
            raise PayloadUnavailable("The URLs of the files are not known. Fetch the result instead.")
        return output_of(result, lambda file: self.link(file.name, files_url))

    def _inline(self, result: JobResult) -> Json:
        size = result.video.file_size + (result.mask_video.file_size if result.mask_video else 0)
        if size > self.max_inline_bytes:
            raise PayloadUnavailable(
                f"The files have {size} bytes, and a webhook carries at most {self.max_inline_bytes}. "
                "Fetch the result instead."
            )
        try:
            return output_of(result, lambda file: data_uri(self.artifacts, file))
        except FileNotFoundError as error:
            raise PayloadUnavailable("The result is no longer kept.") from error


def _encode(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
