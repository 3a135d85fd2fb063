"""What a webhook says of a result: the same as asking for it, or why it cannot."""

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


def told(
    artifacts: Artifacts, result: JobResult | None, files_url: str | None = FILES, most: int = 100
) -> Any:
    job = Job(1, "one", JobState.COMPLETED, Priority.NORMAL, 0.0, result=result.as_json() if result else None)
    return json.loads(PayloadBuilder(artifacts, link, most).write(job, files_url))


@pytest.mark.parametrize("result", [RESULT, JobResult(media("one"))])
def test_the_output_is_that_of_the_document(result: JobResult) -> None:
    def url(file: Any) -> str:
        return link(file.name, FILES)

    output = output_of(result, url)
    assert VideoOutput.model_validate(output).model_dump(mode="json", exclude_none=True) == output


def test_an_inline_result_carries_its_files(artifacts: Artifacts) -> None:
    artifacts.put_bytes(INLINE.video.name, b"bytes")
    url = told(artifacts, INLINE)["payload"]["video"]["url"]
    assert url.startswith("data:video/mp4;base64,") and b64decode(url.partition(",")[2]) == b"bytes"
    assert artifacts.exists(INLINE.video.name)  # the client may still ask for it


def test_why_there_is_no_payload(artifacts: Artifacts) -> None:
    for message, reason in (
        (told(artifacts, None), "no longer kept"),
        (told(artifacts, INLINE), "no longer kept"),
        (told(artifacts, INLINE, most=4), "have 5 bytes, and a webhook carries at most 4"),
        (told(artifacts, RESULT, files_url=None), "Fetch the result"),
    ):
        assert message["status"] == "OK" and message["payload"] is None
        assert reason in message["payload_error"]
