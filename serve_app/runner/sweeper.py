"""Deletes expired files and rows of finished jobs, expired uploads, and leftovers of killed processes."""

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
    """Sweeps every `every_s`. Any number may run concurrently, as each step is idempotent."""

    def __init__(self, settings: ExpirySettings, store: JobMaintenance, artifacts: Artifacts) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts

    async def run(self) -> None:
        """Sweep until cancelled. Failures are logged, and the next sweep tries again."""
        while True:
            try:
                await self.sweep()
            except Exception:
                logger.exception("a sweep failed; the next one tries again")
            await asyncio.sleep(self._settings.every_s)

    async def sweep(self) -> None:
        """Sweep once. Files are deleted before their row: a crash in between leaves a row, not an orphaned file."""
        while True:
            expired = await self._store.expired(self._settings, BATCH)
            cleared = [job_id for job_id in expired.files if await self._deleted(outputs_of(job_id))]
            if cleared:
                await self._store.files_deleted(cleared)
            if expired.jobs:
                await self._store.delete(expired.jobs)
                logger.info("deleted %d expired jobs", len(expired.jobs))
            if len(cleared) < BATCH and len(expired.jobs) < BATCH:
                break
        await self._orphans()
        await self._uploads()

    async def _uploads(self) -> None:
        """Delete expired uploads; the expiry is part of the directory's name."""
        for prefix in (UPLOADS, PARTS):
            for child in await asyncio.to_thread(self._artifacts.children, prefix.rstrip("/")):
                if has_expired(child):
                    await self._deleted(f"{prefix.rstrip('/')}/{child}")

    async def _orphans(self) -> None:
        """Delete the work files of jobs that have ended, and outputs that never became a result."""
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
            logger.info("removed leftover files of job %s", job_id)

    async def _deleted(self, prefix: str) -> bool:
        return await deleted(self._artifacts, prefix)


async def deleted(artifacts: Artifacts, prefix: str) -> bool:
    """Delete all files below `prefix`. A failure is logged and returns False; the sweeper tries again."""
    try:
        await asyncio.to_thread(artifacts.delete_prefix, prefix)
    except Exception:
        logger.exception("the files below %s could not be deleted", prefix)
        return False
    return True
