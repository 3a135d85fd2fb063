"""The runner's loop: claims jobs from the job table under leases and runs them to completion."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from serve_app.artifacts.store import Artifacts
from serve_app.files.signing import Signer
from serve_app.jobs.model import lease_owner
from serve_app.jobs.store import JobLeases
from serve_app.runner.chunk_calls import StageHandles
from serve_app.runner.concurrency import Capacity
from serve_app.runner.leased_job import LeasedJob, RunnerContext
from serve_app.runner.pipeline import Pipeline
from serve_app.settings import Settings

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

STALE_S = 10.0  # without an iteration for so long, the loop counts as hung
DRAIN_S = 15.0
EXPIRE_S = 1.0  # interval between checks of start deadlines


class RunnerLoop:
    """The job table is authoritative and polled every `poll_s`; `wake` and `cancel` are only hints."""

    def __init__(
        self,
        settings: Settings,
        store: JobLeases,
        stages: StageHandles,
        artifacts: Artifacts,
        signer: Signer,
    ) -> None:
        self._settings = settings.runner
        self._store = store
        pipeline = Pipeline(settings, stages, artifacts, signer)
        self._context = RunnerContext(settings.runner, store, artifacts, pipeline, Capacity(settings))
        self._owner = lease_owner()
        self._woken = asyncio.Event()
        self._stopping = False
        self._leased: dict[asyncio.Task[None], LeasedJob] = {}
        self._last_iteration = asyncio.get_running_loop().time()
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        for job in self._leased.values():
            if job.job_id == job_id:
                job.poll()

    def check(self) -> None:
        """Raise RuntimeError if the loop has ended or hangs."""
        if self._loop.done():
            raise RuntimeError("the runner's loop has ended")
        if asyncio.get_running_loop().time() - self._last_iteration > STALE_S:
            raise RuntimeError(f"the runner's loop has made no iteration for {STALE_S:g} s")

    async def stop(self) -> None:
        """Stop claiming, cancel the running jobs and release them for other runners to claim."""
        self._stopping = True
        self._woken.set()
        await asyncio.wait([self._loop], timeout=DRAIN_S)
        for job in self._leased.values():
            job.release()
        if self._leased:
            await asyncio.wait(self._leased, timeout=DRAIN_S)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        expired_at = clock()
        while not self._stopping:
            try:
                if clock() - expired_at >= EXPIRE_S:
                    expired_at = clock()
                    for job_id in await self._store.expire_waiting():
                        logger.info("job %s was not started before its deadline", job_id)
                await self._claim()
            except Exception:
                logger.exception("the job table cannot be used; trying again")
            self._last_iteration = clock()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)
            self._woken.clear()

    async def _claim(self) -> None:
        free = self._settings.max_jobs - len(self._leased)
        if free <= 0:
            return
        for claim in await self._store.claim(self._owner, self._settings.lease_s, free):
            job = LeasedJob(claim, self._context)
            task = asyncio.create_task(job.run_to_completion())
            self._leased[task] = job
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._leased[task]
        self._woken.set()
