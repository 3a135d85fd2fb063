"""JobRunner deployment: claims jobs from the table under leases, runs them, and writes down how they ended."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.errors import to_wire
from serve_app.jobs.pipeline import JobNames, Pipeline
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


@dataclass(eq=False)
class Work:
    """One claimed job in progress. `beat` hurries the next heartbeat, which hears of cancellation."""

    claim: Claim
    beat: asyncio.Event = field(default_factory=asyncio.Event)
    cancel_requested: bool = False
    lost: bool = False


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
        self._running: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._turned = asyncio.get_running_loop().time()
        self._loop = asyncio.create_task(self._claim_jobs())

    def wake(self) -> None:
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        if job_id in self._running:
            self._running[job_id][0].beat.set()

    def check(self) -> None:
        """Raise RuntimeError when the loop has died or hangs."""
        if self._loop.done():
            raise RuntimeError("the runner's loop has ended")
        if asyncio.get_running_loop().time() - self._turned > STALE_S:
            raise RuntimeError(f"the runner's loop has not turned for {STALE_S:g} s")

    async def stop(self) -> None:
        """Stop claiming, cancel what runs, and give the jobs back at once for others to take."""
        self._loop.cancel()
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_S)

    async def _claim_jobs(self) -> None:
        while True:
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
        task = asyncio.create_task(self._run(work))
        self._running[claim.job.id] = (work, task)

        def ended(_: asyncio.Task[None]) -> None:
            self._running.pop(claim.job.id, None)
            self._woken.set()

        task.add_done_callback(ended)

    async def _run(self, work: Work) -> None:
        """Run one job to its end in the table. Only a lost lease leaves the end to somebody else."""
        job, lease = work.claim.job, work.claim.lease
        names = JobNames(job.id, lease.token)
        task = asyncio.create_task(self._execute(work, names))
        beats = asyncio.create_task(self._keep_lease(work, task))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:  # this replica is being stopped
            task.cancel()
            await asyncio.wait([task])
            beats.cancel()
            await self._store.release(lease)
            logger.info("job %s given back", job.id)
            return
        finally:
            beats.cancel()
        if work.lost:
            logger.warning("job %s was taken over by another runner", job.id)
            return
        await self._record(work, names, task)

    async def _execute(self, work: Work, names: JobNames) -> dict[str, object]:
        claim = work.claim
        if claim.job.cancel_requested:
            work.cancel_requested = True
            raise asyncio.CancelledError
        request = JobRequest.from_json(claim.input)

        async def report(progress: Progress) -> None:
            logger.info("job %s: %s %s", claim.job.id, progress.stage, progress.message)
            await self._store.progress(claim.lease, progress)

        window = self._windows[request.variant]
        async with window.share(claim.job.priority, claim.job.created_at) as share:
            result = await self._pipeline.run(request, names, window, share, report)
        return result.as_json()

    async def _keep_lease(self, work: Work, task: asyncio.Task[dict[str, object]]) -> None:
        """Renew the lease; stop the work when it is lost or cancellation was asked for."""
        lease_s = self._settings.lease_s
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(work.beat.wait(), lease_s / 3)
            work.beat.clear()
            try:
                answer = await self._store.heartbeat(work.claim.lease, lease_s)
            except Exception:
                logger.exception("the lease of job %s could not be renewed", work.claim.job.id)
                if clock() - renewed < lease_s:
                    continue
                work.lost = True
            else:
                renewed = clock()
                work.lost = not answer.held
                work.cancel_requested = answer.cancel_requested
            if work.lost or work.cancel_requested:
                task.cancel()
                return

    async def _record(self, work: Work, names: JobNames, task: asyncio.Task[dict[str, object]]) -> None:
        """Clean up, then write the end, so that nothing is left behind once a client sees it."""
        lease = work.claim.lease
        await asyncio.to_thread(self._artifacts.delete_prefix, names.work)
        failure: BaseException | None = None
        if not task.cancelled():
            failure = task.exception()
        if task.cancelled() or failure is not None:
            await asyncio.to_thread(self._artifacts.delete_prefix, names.outputs)
        if task.cancelled():
            await self._store.cancelled(lease)
        elif failure is None:
            if not await self._store.complete(lease, task.result()):
                # The lease was lost in the last moment: the job's new holder writes under its own token.
                await asyncio.to_thread(self._artifacts.delete_prefix, names.own_outputs)
        else:
            error = as_service_error(failure)
            logger.warning("job %s failed: %s", lease.job_id, error, exc_info=failure)
            await self._store.fail(lease, to_wire(error))


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
