"""One claimed job, from its claim until its outcome is recorded. The lease is renewed throughout."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from serve_app.artifacts.store import Artifacts
from serve_app.errors import RunnerLost, to_wire
from serve_app.jobs.model import Claim, Heartbeat, Json
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobRequest
from serve_app.jobs.store import JobLeases
from serve_app.runner.concurrency import Capacity
from serve_app.runner.journal import Journal
from serve_app.runner.pipeline import Assignment, Pipeline
from serve_app.runner.retry import TRIES, as_service_error
from serve_app.runner.sweeper import deleted
from serve_app.settings import RunnerSettings

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

T = TypeVar("T")

HEARTBEAT_S = 1.0  # also the delay until a cancellation whose hint was lost is noticed
WRITE_TRIES = 5


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What all jobs of a runner share."""

    settings: RunnerSettings
    store: JobLeases
    artifacts: Artifacts
    pipeline: Pipeline
    capacity: Capacity


class LeasedJob:
    """Runs the job in one task, which is cancelled with the job, on loss of the lease, and by `release`."""

    def __init__(self, claim: Claim, context: RunnerContext) -> None:
        self.job_id = claim.job.id
        self._claim = claim
        self._lease = claim.lease
        self._names = JobNames(claim.job.id, claim.lease.token)
        self._context = context
        self._store = context.store
        self._heartbeat_due = asyncio.Event()
        self._work = asyncio.create_task(self._execute())

    def poll(self) -> None:
        """Send the next heartbeat now; its reply tells whether the job was cancelled."""
        self._heartbeat_due.set()

    def release(self) -> None:
        """Stop working, so that `run_to_completion` releases the job for other runners to claim."""
        self._work.cancel()

    async def run_to_completion(self) -> None:
        """Return once the outcome is recorded or another runner has taken over. Must not be cancelled."""
        heartbeats = asyncio.create_task(self._keep_lease())
        try:
            await asyncio.wait([self._work])
            await self._end()
        except Exception:
            logger.exception(
                "the outcome of job %s could not be recorded; its lease will expire", self.job_id
            )
        finally:
            heartbeats.cancel()

    async def _execute(self) -> Json:
        job, context = self._claim.job, self._context
        journal = Journal(self._store, self._lease)
        if job.attempts > (context.settings.max_attempts if job.retry else 1):
            raise RunnerLost(
                f"The runner of this request was lost {job.attempts - 1} times."
                if job.retry
                else "The runner of this request was lost, and the request disallows retries."
            )
        if self._lease.token > 1:  # outputs of earlier leases never became a result
            await asyncio.to_thread(self._delete_earlier)
        if job.attempts > 1:
            await journal.note(f"taken over from a lost runner (attempt {job.attempts})")
        request = JobRequest.from_json(self._claim.input)
        with context.capacity.places(request.variant, job.priority, job.created_at) as places:
            assignment = Assignment(request, self._names, journal, places, TRIES if job.retry else 1)
            result = await context.pipeline.run(assignment)
        return result.as_json()

    async def _keep_lease(self) -> None:
        """Renew the lease until it is lost or the job is cancelled; then stop the work."""
        lease_s = self._context.settings.lease_s
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heartbeat_due.wait(), min(HEARTBEAT_S, lease_s / 3))
            self._heartbeat_due.clear()
            try:
                held = (await self._renew()).held
            except Exception:
                logger.exception("the lease of job %s could not be renewed", self.job_id)
                held = clock() - renewed < lease_s
            else:
                renewed = clock()
            if not held:
                self._work.cancel()
                return

    async def _end(self) -> None:
        """Record the outcome, then clean up: a job whose pieces are gone but whose end is not written would be computed
        again. What a runner that dies in between leaves, the sweeper deletes.
        """
        heartbeat = await self._with_retries(self._renew)
        if heartbeat.held:
            if self._work.cancelled():
                await self._with_retries(lambda: self._store.release(self._lease))
                logger.info("job %s was released", self.job_id)
                return
            if await self._finish():
                return
            heartbeat = await self._renew()  # cancelled or taken over in the meantime
        if heartbeat.cancelled:
            await self._delete(self._names.outputs)
            await self._delete(self._names.work)
            await self._store.cleaned(self._lease)
            logger.info("job %s was cancelled", self.job_id)
        else:
            logger.warning("job %s was taken over by another runner", self.job_id)
            await self._delete(self._names.own_outputs)

    async def _finish(self) -> bool:
        """Record the result or the error, and delete the files. Returns False if the lease is lost."""
        failure = self._work.exception()
        if failure is None:
            written = await self._with_retries(lambda: self._store.complete(self._lease, self._work.result()))
        else:
            error = as_service_error(failure)
            logger.warning("job %s failed: %s", self.job_id, error, exc_info=failure)
            written = await self._with_retries(lambda: self._store.fail(self._lease, to_wire(error)))
        if written:  # the sweeper finds a job by its work files, so these go last
            if failure is not None:
                await self._delete(self._names.own_outputs)
            await self._delete(self._names.work)
        return written

    async def _renew(self) -> Heartbeat:
        return await self._store.heartbeat(self._lease, self._context.settings.lease_s)

    async def _with_retries(self, write: Callable[[], Awaitable[T]]) -> T:
        """Retry a write that ends the job: if it is lost, the whole job is computed again."""
        for left in reversed(range(WRITE_TRIES)):
            try:
                return await write()
            except Exception:
                if not left:
                    raise
                logger.exception("the job table cannot be written; trying again")
                await asyncio.sleep(0.5)
        raise AssertionError("unreachable")

    def _delete_earlier(self) -> None:
        """Delete the outputs of lower fencing tokens only: a runner that resumes late must not touch later ones."""
        for child in self._context.artifacts.children(self._names.outputs):
            if child.isdecimal() and int(child) < self._lease.token:
                self._context.artifacts.delete_prefix(f"{self._names.outputs}/{child}")

    async def _delete(self, prefix: str) -> None:
        await deleted(self._context.artifacts, prefix)
