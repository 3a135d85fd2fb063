"""Deletes what has served its time: files and rows of finished jobs, and what killed processes left behind."""

from __future__ import annotations

import asyncio
import logging

from serve_app.artifacts.store import Artifacts
from serve_app.files.upload_names import PARTS, UPLOADS, has_expired
from serve_app.jobs.model import JobState
from serve_app.jobs.names import WORK, outputs_of, work_of
from serve_app.jobs.store import JobMaintenance
from serve_app.settings import ExpirySettings

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

BATCH = 200


class Sweeper:
    """Looks every `every_s`. Any number may run at once: each step can be done twice."""

    def __init__(self, settings: ExpirySettings, store: JobMaintenance, artifacts: Artifacts) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts

    async def run(self) -> None:
        """Sweep until cancelled; a failure is logged and the next round tries again."""
        while True:
            try:
                await self.sweep()
            except Exception:
                logger.exception("the sweeper could not finish its round; trying again")
            await asyncio.sleep(self._settings.every_s)

    async def sweep(self) -> None:
        """One round. Files go before the row that names them: a crash in between leaves a row, not a file."""
        while True:
            expired = await self._store.expired(self._settings, BATCH)
            gone = [job_id for job_id in expired.files if await self._deleted(outputs_of(job_id))]
            if gone:
                await self._store.files_deleted(gone)
            if expired.jobs:
                await self._store.delete(expired.jobs)
                logger.info("forgot %d jobs", len(expired.jobs))
            if len(gone) < BATCH and len(expired.jobs) < BATCH:
                break
        await self._orphans()
        await self._uploads()

    async def _uploads(self) -> None:
        """Their directories say until when they are kept."""
        for prefix in (UPLOADS, PARTS):
            for child in await asyncio.to_thread(self._artifacts.children, prefix.rstrip("/")):
                if has_expired(child):
                    await self._deleted(f"{prefix.rstrip('/')}/{child}")

    async def _orphans(self) -> None:
        """Work files whose holder died after the job had ended, and outputs that never became a result."""
        found = await asyncio.to_thread(self._artifacts.children, WORK)
        if not found:
            return
        owned = await self._store.unfinished(found)
        for job_id in found:
            if job_id in owned:
                continue
            job = await self._store.get(job_id)
            if job is None or job.state != JobState.COMPLETED:
                await self._deleted(outputs_of(job_id))
            await self._deleted(work_of(job_id))
            logger.info("removed what job %s had left behind", job_id)

    async def _deleted(self, prefix: str) -> bool:
        return await deleted(self._artifacts, prefix)


async def deleted(artifacts: Artifacts, prefix: str) -> bool:
    """Whether all below `prefix` is gone now; what cannot be deleted is logged, and the sweeper tries again."""
    try:
        await asyncio.to_thread(artifacts.delete_prefix, prefix)
    except Exception:
        logger.exception("the files below %s cannot be deleted now", prefix)
        return False
    return True
