"""A harness for webhooks: jobs that end with one, dispatchers, and access to the outbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, select

from serve_app.artifacts.store import Artifacts
from serve_app.database.engine import Database
from serve_app.database.tables import deliveries
from serve_app.errors import WireError
from serve_app.jobs.model import Claim, Event, NewJob
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.protocols import MediaFile
from serve_app.settings import WebhookSettings
from serve_app.webhooks.dispatcher import Dispatcher
from serve_app.webhooks.outbox import Outbox
from serve_app.webhooks.payload import PayloadBuilder
from serve_app.webhooks.signing_keys import KeyFile
from tests.waiting import until

FILES = "https://service.example:8001"
DEFAULTS = {
    "allow_private": True,
    "first_delay_s": 0.0,
    "poll_s": 0.01,
}  # receivers are on loopback, retries at once


def media(job_id: str, kind: str = "output") -> MediaFile:
    name = f"outputs/{job_id}/1/{kind}.mp4"
    return MediaFile(name, "video/mp4", f"{kind}.mp4", 5, 640, 360, 23.976, 5.5, 132)


def link(name: str, base: str) -> str:
    return f"{base}/files/{name}"


@dataclass
class WebhookHarness:
    url: str
    store: SqlJobStore
    artifacts: Artifacts
    keys: KeyFile
    dispatchers: list[Dispatcher] = field(default_factory=list)
    outboxes: list[Outbox] = field(default_factory=list)

    def dispatcher(self, **settings: Any) -> Dispatcher:
        chosen = WebhookSettings(**(DEFAULTS | settings))
        payloads = PayloadBuilder(self.artifacts, link, chosen.max_inline_bytes)
        self.dispatchers.append(Dispatcher(chosen, self.url, self.keys, payloads))
        return self.dispatchers[-1]

    def outbox(self, lease_s: float = 60.0) -> Outbox:
        self.outboxes.append(Outbox(self.url, lease_s, lease_s))
        return self.outboxes[-1]

    async def close(self) -> None:
        for dispatcher in self.dispatchers:
            await dispatcher.stop()
        for outbox in self.outboxes:
            await outbox.close()

    async def claimed(self, job_id: str, webhook: str, **options: Any) -> Claim:
        new = NewJob(job_id, {}, webhook=webhook, **({"files_url": FILES} | options))
        await self.store.insert(new)
        (claim,) = await self.store.claim("runner", 60.0, 1)
        return claim

    async def completed(
        self, job_id: str, webhook: str, mask: bool = False, inline: bool = False, **options: Any
    ) -> None:
        claim = await self.claimed(job_id, webhook, **options)
        result = JobResult(media(job_id), media(job_id, "mask") if mask else None, inline)
        assert await self.store.complete(claim.lease, result.as_json())

    async def failed(self, job_id: str, webhook: str, error: WireError) -> None:
        claim = await self.claimed(job_id, webhook)
        assert await self.store.fail(claim.lease, error)

    async def row(self, job_id: str) -> Row[Any]:
        database = Database(self.url)
        try:
            (row,) = await database.read(select(deliveries).where(deliveries.c.job_id == job_id))
            return row
        finally:
            await database.close()

    async def settled(self, job_id: str) -> Row[Any]:
        """The row of a delivery, once it is done."""

        async def is_done() -> bool:
            return bool((await self.row(job_id)).done)

        await until(is_done)
        return await self.row(job_id)

    async def webhook_lines(self, job_id: str) -> list[Event]:
        """The lines about webhooks in a job's log."""
        return [event for event in await self.store.events(job_id) if event.message.startswith("webhook")]
