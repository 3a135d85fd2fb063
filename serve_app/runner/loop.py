"""The loop over the job table: claims jobs under leases and sees each through to its end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from serve_app.artifacts.store import Artifacts
from serve_app.fal import Variant
from serve_app.files.signing import Signer
from serve_app.jobs.model import lease_owner
from serve_app.jobs.store import JobLeases
from serve_app.runner.chunk_calls import StageHandles
from serve_app.runner.concurrency import Window
from serve_app.runner.leased_job import LeasedJob, RunnerContext
from serve_app.runner.pipeline import Pipeline
from serve_app.settings import Settings

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

STALE_S = 10.0  # a loop that has not turned for so long is dead
DRAIN_S = 15.0
EXPIRE_S = 1.0  # how often start deadlines are looked at


class RunnerLoop:
    """The table is the truth, looked at every `poll_s`; `wake` and `cancel` are hints only."""

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
        windows = {variant: Window(_places(settings, variant)) for variant in Variant}
        self._context = RunnerContext(settings.runner, store, artifacts, pipeline, windows)
        self._owner = lease_owner()
        self._woken = asyncio.Event()
        self._stopping = False
        self._leased: dict[asyncio.Task[None], LeasedJob] = {}
        self._turned = asyncio.get_running_loop().time()
        self._loop = asyncio.create_task(self._turn())

    def wake(self) -> None:
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        for job in self._leased.values():
            if job.job_id == job_id:
                job.look()

    def check(self) -> None:
        """Raise RuntimeError when the loop has died or hangs."""
        if self._loop.done():
            raise RuntimeError("the runner's loop has ended")
        if asyncio.get_running_loop().time() - self._turned > STALE_S:
            raise RuntimeError(f"the runner's loop has not turned for {STALE_S:g} s")

    async def stop(self) -> None:
        """Stop claiming, cancel what runs, and give the jobs back at once for others to take."""
        self._stopping = True
        self._woken.set()
        await asyncio.wait([self._loop], timeout=DRAIN_S)
        for job in self._leased.values():
            job.give_back()
        if self._leased:
            await asyncio.wait(self._leased, timeout=DRAIN_S)

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        looked = clock()
        while not self._stopping:
            try:
                if clock() - looked >= EXPIRE_S:
                    looked = clock()
                    for job_id in await self._store.expire_waiting():
                        logger.info("job %s was not started before its deadline", job_id)
                await self._claim()
            except Exception:
                logger.exception("the job table cannot be used; trying again")
            self._turned = clock()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)
            self._woken.clear()

    async def _claim(self) -> None:
        free = self._settings.max_jobs - len(self._leased)
        if free <= 0:
            return
        for claim in await self._store.claim(self._owner, self._settings.lease_s, free):
            job = LeasedJob(claim, self._context)
            seeing = asyncio.create_task(job.see_through())
            self._leased[seeing] = job
            seeing.add_done_callback(self._ended)

    def _ended(self, seeing: asyncio.Task[None]) -> None:
        del self._leased[seeing]
        self._woken.set()


def _places(settings: Settings, variant: Variant) -> int:
    """Chunks in flight for one segmenter: twice its capacity, as far as the object store allows."""
    capacity = settings.segmenter_for(variant).scale.max_replicas
    in_store = settings.runner.max_object_bytes // (3 * settings.chunk.max_bytes)  # frames, colour, matte
    return min(2 * capacity, max(1, in_store))
