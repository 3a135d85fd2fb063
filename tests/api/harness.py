"""An application over a real job table, with clients for it and a coroutine in the runner's role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from fastapi import FastAPI

from serve_app.accounts.quotas import Quotas
from serve_app.api.app import make_app
from serve_app.api.services import Services
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from serve_app.jobs.model import Claim, Job
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.protocols import MediaFile
from serve_app.settings import IngressSettings, QuotaSettings, UploadSettings
from serve_app.webhooks.signing_keys import KeyFile
from tests.jobs.steps import newest

APP = "/fal-ai/birefnet"
PATH = APP + "/v2/video"
SUBMIT = "/queue" + PATH
FORMS = ["/queue" + APP, "/queue" + PATH]  # of a job's URL
INPUT = {"video_url": "http://host.example/v.mp4"}
SIGNER = Signer(b"k" * 32)
MEDIA = MediaFile("outputs/ab12/output.mp4", "video/mp4", "output.mp4", 1234, 640, 360, 23.976, 5.5, 132)
FILE = SIGNER.file_path(MEDIA.name)  # the path of its URL
VIDEO = {
    "url": "http://service.example:8001" + FILE,
    "content_type": "video/mp4",
    "file_name": "output.mp4",
    "file_size": 1234,
    "width": 640,
    "height": 360,
    "fps": 23.976,
    "duration": 5.5,
    "num_frames": 132,
}

Work = Callable[[SqlJobStore, Claim], Awaitable[object]]


@dataclass
class RecordingNotifier:
    """Keeps what a runner would be notified of."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: list[str] = field(default_factory=list)

    def wake(self) -> None:
        self.woken.set()

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


async def complete(store: SqlJobStore, claim: Claim) -> object:
    return await store.complete(claim.lease, JobResult(MEDIA).as_json())


def services(store: SqlJobStore, artifacts: Artifacts, **options: Any) -> Services:
    """Services without API keys and with the limits of the default settings, unless `options` say otherwise."""
    parts = Services(
        store,
        artifacts,
        RecordingNotifier(),
        FileUrls(8001, FileLinks(SIGNER)),
        KeyFile(artifacts.root.parent / "webhook-keys.json"),
        verifier=None,
        public_url=None,
        limits=IngressSettings(),
        quotas=Quotas(QuotaSettings()),
        uploads=UploadSettings(),
    )
    return replace(parts, **options)


class ApiHarness:
    """An application with its job table, and clients for it."""

    def __init__(self, store: SqlJobStore, artifacts: Artifacts, **options: Any) -> None:
        self.store = store
        self.artifacts = artifacts
        self.notifier = RecordingNotifier()
        self.app: FastAPI = make_app(services(store, artifacts, notifier=self.notifier, **options))

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        options = {"base_url": "http://service.example:8000"} | options
        async with httpx.AsyncClient(transport=transport, **options) as client:
            yield client

    @asynccontextmanager
    async def runner(self, work: Work = complete) -> AsyncIterator[list[Claim]]:
        """Claims each job when notified and runs `work` on it."""
        claims: list[Claim] = []

        async def loop() -> None:
            while True:
                await self.notifier.woken.wait()
                self.notifier.woken.clear()
                for claim in await self.store.claim("runner", 60.0, 10):
                    claims.append(claim)
                    await work(self.store, claim)

        task = asyncio.create_task(loop())
        try:
            yield claims
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def submitted(client: httpx.AsyncClient, **options: Any) -> str:
    """Submits a job and returns its URL."""
    if "content" not in options:
        options = {"json": INPUT} | options
    reply = await client.post(SUBMIT, **options)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["response_url"])


async def only_job(store: SqlJobStore) -> Job:
    (job,) = await newest(store, 10)
    return job


async def claimed(harness: ApiHarness) -> Claim:
    (claim,) = await harness.store.claim("runner", 60.0, 1)
    return claim
