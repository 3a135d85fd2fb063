"""JobRunner deployment: claims jobs from the table under leases, runs them, and writes down how they ended."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.errors import to_wire
from serve_app.jobs.names import JobNames
from serve_app.jobs.pipeline import Pipeline
from serve_app.jobs.request import JobRequest
from serve_app.jobs.retry import as_service_error
from serve_app.jobs.store import Claim, JobStore, Progress
from serve_app.jobs.windows import Window
from serve_app.protocols import Variant
from serve_app.settings import Settings
from serve_app.stages.handles import StageHandles
from serve_app.storage.artifacts import Artifacts

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

STALE_S = 10.0  # a loop that has not turned for so long is dead
DRAIN_S = 15.0
BEAT_S = 1.0  # also how soon a cancellation is seen when its hint was lost
WRITE_TRIES = 5


@dataclass(eq=False)
class Work:
    """One claimed job in progress. `beat` hurries the next heartbeat, which hears of cancellation."""

    claim: Claim
    beat: asyncio.Event = field(default_factory=asyncio.Event)
    cancel_requested: bool = False
    lost: bool = False

    @property
    def names(self) -> JobNames:
        return JobNames(self.claim.job.id, self.claim.lease.token)


class Runner:
    """The loop. The table is the truth, looked at every `poll_s`; `wake` and `cancel` are hints only."""

    def __init__(
        self, settings: Settings, store: JobStore, stages: StageHandles, artifacts: Artifacts
    ) -> None:
        self._settings = settings.runner
        self._store = store
        self._artifacts = artifacts
        self._pipeline = Pipeline(settings, stages, artifacts)
        self._windows = {variant: Window(_places(settings, variant)) for variant in Variant}
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._woken = asyncio.Event()
        self._stopping = False
        self._running: dict[Work, asyncio.Task[dict[str, object]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._turned = asyncio.get_running_loop().time()
        self._loop = asyncio.create_task(self._claim_jobs())

    def wake(self) -> None:
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        for work in self._running:
            if work.claim.job.id == job_id:
                work.beat.set()

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
        for task in self._running.values():
            task.cancel()
        if self._ending:
            await asyncio.wait(self._ending, timeout=DRAIN_S)

    async def _claim_jobs(self) -> None:
        while not self._stopping:
            free = self._settings.max_jobs - len(self._running)
            if free > 0:
                try:
                    claims = await self._store.claim(self._owner, self._settings.lease_s, free)
                except Exception:
                    logger.exception("the job table cannot be read; trying again")
                    claims = []
                for claim in claims:
                    self._start(claim)
            self._turned = asyncio.get_running_loop().time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)
            self._woken.clear()

    def _start(self, claim: Claim) -> None:
        work = Work(claim)
        self._running[work] = asyncio.create_task(self._execute(work))
        end = asyncio.create_task(self._see_through(work))
        self._ending.add(end)
        end.add_done_callback(self._ending.discard)

    async def _see_through(self, work: Work) -> None:
        """Keep the lease until the job's end is written. Never cancelled: `stop` cancels the work itself."""
        task = self._running[work]
        beats = asyncio.create_task(self._keep_lease(work, task))
        try:
            await asyncio.wait([task])
            await self._end(work, task)
        except Exception:
            logger.exception(
                "the end of job %s could not be written; its lease will expire", work.claim.job.id
            )
        finally:
            beats.cancel()
            del self._running[work]
            self._woken.set()

    async def _execute(self, work: Work) -> dict[str, object]:
        claim = work.claim
        if claim.job.cancel_requested:
            work.cancel_requested = True
            raise asyncio.CancelledError
        if claim.lease.token > 1:  # what an earlier holder had put out never became a result
            await self._delete(work.names.outputs)
        request = JobRequest.from_json(claim.input)

        async def report(progress: Progress) -> None:
            done = f"{progress.frames_done}/{progress.frames_total}" if progress.frames_total else ""
            logger.info("job %s: %s %s %s", claim.job.id, progress.stage, done, progress.message)
            try:
                await self._store.progress(claim.lease, progress)
            except Exception:
                logger.exception("the progress of job %s could not be written", claim.job.id)

        window = self._windows[request.variant]
        async with window.share(claim.job.priority, claim.job.created_at) as share:
            result = await self._pipeline.run(request, work.names, window, share, report)
        return result.as_json()

    async def _keep_lease(self, work: Work, task: asyncio.Task[dict[str, object]]) -> None:
        """Renew the lease; stop the work when it is lost or cancellation was asked for."""
        lease_s = self._settings.lease_s
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while not work.lost:
            with suppress(TimeoutError):
                await asyncio.wait_for(work.beat.wait(), min(BEAT_S, lease_s / 3))
            work.beat.clear()
            try:
                answer = await self._store.heartbeat(work.claim.lease, lease_s)
            except Exception:
                logger.exception("the lease of job %s could not be renewed", work.claim.job.id)
                work.lost = clock() - renewed >= lease_s
            else:
                renewed = clock()
                work.lost = not answer.held
                if answer.cancel_requested and not task.done():
                    work.cancel_requested = True
            if work.lost or work.cancel_requested:
                task.cancel()

    async def _end(self, work: Work, task: asyncio.Task[dict[str, object]]) -> None:
        """Clean up, then write the end, so that nothing is left behind once a client sees it.

        Everything but this holder's own outputs belongs to whoever has the lease, so the lease is renewed first.
        """
        lease, names = work.claim.lease, work.names
        if work.lost or not (await self._store.heartbeat(lease, self._settings.lease_s)).held:
            logger.warning("job %s was taken over by another runner", lease.job_id)
            await self._delete(names.own_outputs)
            return
        if task.cancelled() and not work.cancel_requested:
            await self._written(lambda: self._store.release(lease))
            logger.info("job %s given back", lease.job_id)
            return
        await self._delete(names.work)
        failure = None if task.cancelled() else task.exception()
        if task.cancelled() or failure is not None:
            await self._delete(names.outputs)
        if task.cancelled():
            await self._written(lambda: self._store.cancelled(lease))
        elif failure is None:
            await self._written(lambda: self._store.complete(lease, task.result()))
        else:
            error = as_service_error(failure)
            logger.warning("job %s failed: %s", lease.job_id, error, exc_info=failure)
            await self._written(lambda: self._store.fail(lease, to_wire(error)))

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> None:
        """A terminal write, tried again: losing it would mean computing the whole job once more."""
        for left in reversed(range(WRITE_TRIES)):
            try:
                await write()
                return
            except Exception:
                if not left:
                    raise
                logger.exception("the job table cannot be written; trying again")
                await asyncio.sleep(0.5)

    async def _delete(self, prefix: str) -> None:
        await asyncio.to_thread(self._artifacts.delete_prefix, prefix)


def _places(settings: Settings, variant: Variant) -> int:
    """Chunks in flight for one segmenter: twice its capacity, as far as the object store allows."""
    capacity = settings.segmenter_for(variant).scale.max_replicas
    in_store = settings.runner.max_object_bytes // (3 * settings.chunk.max_bytes)  # frames, colour, matte
    return min(2 * capacity, max(1, in_store))


@serve.deployment
class JobRunner:
    """Serve sees no ongoing requests here, so it can neither scale nor drain this deployment by itself."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        settings: Settings,
        decoder: DeploymentHandle,
        segmenters: dict[Variant, DeploymentHandle],
        encoder: DeploymentHandle,
    ) -> None:
        from serve_app.jobs.sql import SqlJobStore  # the database: in ingress and runner alone

        self._store = SqlJobStore(settings.database_url)
        await self._store.open()
        stages = StageHandles.of(decoder, segmenters, encoder)
        self._runner = Runner(settings, self._store, stages, Artifacts(settings.artifacts_dir))

    async def wake(self) -> None:
        """Hint: there is a new job."""
        self._runner.wake()

    async def cancel(self, job_id: str) -> None:
        """Hint: the cancel flag of a job was set."""
        self._runner.cancel(job_id)

    async def check_health(self) -> None:
        self._runner.check()

    async def __del__(self) -> None:
        """Serve awaits this up to `graceful_shutdown_timeout_s`."""
        if hasattr(self, "_runner"):
            await self._runner.stop()
            await self._store.close()
