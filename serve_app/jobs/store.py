"""The interface of the job table: one protocol for each kind of user.

Every method is one transaction and safe to call from any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serve_app.errors import WireError
from serve_app.jobs.model import (
    CancelOutcome,
    Claim,
    Event,
    Expired,
    Heartbeat,
    HistoryPage,
    Job,
    JobState,
    Json,
    Lease,
    LogLevel,
    NewJob,
    Progress,
)
from serve_app.settings import ExpirySettings, QuotaSettings


class JobLookup(Protocol):
    """The lookup that all users share."""

    async def get(self, job_id: str) -> Job | None: ...


class JobRequests(JobLookup, Protocol):
    """The API's part: insert, read, cancel."""

    async def insert(self, job: NewJob, quotas: QuotaSettings | None = None) -> Job:
        """Inserts a QUEUED job (FAILED, if it has an `error`) and returns it. Raises `ValueError` if the id exists.

        If the account has a job with the same idempotency key, that one is returned instead, in any state: the caller
        compares `id` and `fingerprint`. Raises `QuotaExceeded`, and inserts nothing, if the account or all together
        have more jobs than `quotas` allows.
        """

    async def by_idempotency_key(self, account: str | None, idempotency_key: str) -> Job | None:
        """The job that an account submitted with this idempotency key, or None."""

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The log lines of a job numbered above `after`, oldest first."""

    async def position(self, job: Job) -> int:
        """The number of queued jobs that run before this queued job."""

    async def waiting(self) -> int:
        """The number of queued jobs."""

    async def request_cancel(self, job_id: str) -> CancelOutcome:
        """Ends an unfinished job as CANCELLED, with `JobCancelled` as its error."""

    async def take_result(self, job_id: str) -> bool:
        """Marks the result as delivered. Returns True to the first caller only."""

    async def forget_result(self, job_id: str) -> None:
        """Deletes the result of a completed job: it was delivered and is not kept."""

    async def history(self, page: HistoryPage) -> list[Job]:
        """The jobs that `page` selects, in any state, newest first."""

    async def forget_payloads(self, job_id: str) -> None:
        """Deletes the payload and the result of a finished job, and the input that its error quotes.

        The caller has deleted the job's files before.
        """

    async def counts(self) -> dict[JobState, int]:
        """The number of jobs in each state; every state is a key."""


class JobLeases(Protocol):
    """A runner's part: claims, and writes under a lease.

    Methods that return a bool return False, and write nothing, if the lease is lost.
    """

    async def expire_waiting(self) -> list[str]:
        """Fails queued jobs that no runner claimed before their start deadline, and returns their ids."""

    async def claim(self, owner: str, lease_s: float, limit: int) -> list[Claim]:
        """Claims up to `limit` jobs that are queued (start deadline not passed) or whose lease has expired.

        They come by priority, then oldest first.
        """

    async def heartbeat(self, lease: Lease, lease_s: float) -> Heartbeat:
        """Extends the lease to `lease_s` from now, and returns whether it is still held."""

    async def report(
        self,
        lease: Lease,
        progress: Progress,
        lines: Sequence[str] = (),
        level: LogLevel = LogLevel.INFO,
    ) -> bool:
        """Records progress, and appends `lines` to the log."""

    async def record_piece(self, lease: Lease, number: int, piece: Json) -> bool:
        """Records a finished piece, for a runner that takes the job over."""

    async def pieces(self, job_id: str) -> dict[int, Json]:
        """The recorded pieces by chunk number."""

    async def complete(self, lease: Lease, result: Json) -> bool: ...

    async def fail(self, lease: Lease, error: WireError) -> bool: ...

    async def release(self, lease: Lease) -> bool:
        """Returns the job to the queue, to its old position; the token stays, which makes this lease stale."""

    async def cleaned(self, lease: Lease) -> None:
        """Records that the holder of a cancelled job has removed its files."""


class JobMaintenance(JobLookup, Protocol):
    """The sweeper's part: retention."""

    async def expired(self, expiry: ExpirySettings, limit: int) -> Expired:
        """Finished jobs past their retention period. Also deletes the results that are not kept."""

    async def files_deleted(self, job_ids: Sequence[str]) -> None:
        """Records that the files of these jobs are deleted, so that `expired` does not return them again."""

    async def delete(self, job_ids: Sequence[str]) -> None:
        """Deletes finished jobs with their logs, pieces and deliveries."""

    async def unfinished(self, job_ids: Sequence[str]) -> set[str]:
        """Those of `job_ids` whose work files are in use: unfinished jobs, and cancelled ones with a valid lease."""


class JobStore(JobRequests, JobLeases, JobMaintenance, Protocol):
    """The whole job table."""

    async def open(self) -> None:
        """Connects. Raises `SchemaOutdated` if the schema is older than this version (`migrate` updates it)."""

    async def close(self) -> None: ...
