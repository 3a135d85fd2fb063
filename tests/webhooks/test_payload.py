"""The payload of a webhook: the result as the API returns it, or the reason why it is missing."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from serve_app.api.schema import VideoOutput
from serve_app.artifacts.store import Artifacts
from serve_app.jobs.model import Job, JobState, Priority
from serve_app.jobs.output import output_of
from serve_app.jobs.request import JobResult
from serve_app.webhooks.payload import PayloadBuilder
from tests.webhooks.harness import FILES, link, media

RESULT = JobResult(media("one"), media("one", "mask"))
INLINE = JobResult(media("one"), inline=True)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


def body_of(
    artifacts: Artifacts, result: JobResult | None, files_url: str | None = FILES, limit: int = 100
) -> Any:
    job = Job(1, "one", JobState.COMPLETED, Priority.NORMAL, 0.0, result=result.as_json() if result else None)
    return json.loads(PayloadBuilder(artifacts, link, limit).write(job, files_url))


@pytest.mark.parametrize("result", [RESULT, JobResult(media("one"))])
def test_the_output_matches_the_api_schema(result: JobResult) -> None:
    def url(file: Any) -> str:
        return link(file.name, FILES)

    output = output_of(result, url)
    assert VideoOutput.model_validate(output).model_dump(mode="json", exclude_none=True) == output


def test_an_inline_result_contains_its_files(artifacts: Artifacts) -> None:
    artifacts.put_bytes(INLINE.video.name, b"bytes")
    url = body_of(artifacts, INLINE)["payload"]["video"]["url"]
    assert url.startswith("data:video/mp4;base64,") and b64decode(url.partition(",")[2]) == b"bytes"
    assert artifacts.exists(INLINE.video.name)  # the client may still fetch it


def test_reasons_for_a_missing_payload(artifacts: Artifacts) -> None:
    for message, reason in (
        (body_of(artifacts, None), "no longer kept"),
        (body_of(artifacts, INLINE), "no longer kept"),
        (body_of(artifacts, INLINE, limit=4), "have 5 bytes, and a webhook carries at most 4"),
        (body_of(artifacts, RESULT, files_url=None), "Fetch the result"),
    ):
        assert message["status"] == "OK" and message["payload"] is None
        assert reason in message["payload_error"]
