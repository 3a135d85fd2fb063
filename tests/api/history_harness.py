"""What the tests of the history of requests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import httpx

from serve_app.artifacts.store import Artifacts
from serve_app.fal import ENDPOINT_ID
from serve_app.jobs.model import Claim
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import MEDIA, submitted

HISTORY = "/v1/models/requests/by-endpoint"


async def history(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    reply = await client.get(HISTORY, params={"endpoint_id": ENDPOINT_ID, **query})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


async def job(client: httpx.AsyncClient, **options: Any) -> str:
    return (await submitted(client, **options)).rpartition("/")[2]


@dataclass
class WritesTwoFiles:
    """A runner's work: a result with two real files."""

    artifacts: Artifacts
    inline: bool = False

    def names(self, claim: Claim) -> tuple[str, str]:
        names = JobNames(claim.job.id, claim.lease.token)
        return names.output("output", "mp4"), names.output("mask", "mp4")

    async def __call__(self, store: SqlJobStore, claim: Claim) -> object:
        for name in self.names(claim):
            self.artifacts.put_bytes(name, b"video", final=True)
        video, mask = (replace(MEDIA, name=name) for name in self.names(claim))
        return await store.complete(claim.lease, JobResult(video, mask, self.inline).as_json())
