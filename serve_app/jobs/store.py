"""The promises of the job table, whatever database is below."""

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
    NewJob,
    Progress,
    Retention,
)


class JobStore(Protocol):
    """The job table. Every method is one transaction and safe under any number of processes."""

    async def open(self) -> None:
        """Connect. Raises `SchemaOutdated` when the schema is not this version's (`migrate` makes it so)."""

    async def close(self) -> None: ...

    # --- the API

    async def insert(self, job: NewJob) -> Job:
        """Add a QUEUED (or with `error`: FAILED) job and return it; `ValueError` when the id is taken.

        A job of the same account with the same idempotency key is returned instead, whatever its state: the caller
        compares `id` and `fingerprint`.
        """

    async def get(self, job_id: str) -> Job | None: ...

    async def keyed(self, account: str | None, idempotency_key: str) -> Job | None:
        """The job that an account's idempotency key stands for."""

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        """The log lines of a job with a number above `after`, oldest first."""

    async def position(self, job: Job) -> int:
        """How many queued jobs go before this queued one."""

    async def waiting(self) -> int:
        """How many jobs are queued."""

    async def request_cancel(self, job_id: str) -> CancelOutcome:
        """End a job that is not over as CANCELLED; its error is `JobCancelled` on the wire."""

    async def take_result(self, job_id: str) -> bool:
        """Mark the result as given out; True for the first caller only."""

    async def forget_result(self, job_id: str) -> None:
        """Drop the result of a job that is over: it was given out and is not kept."""

    async def history(self, page: HistoryPage) -> list[Job]:
        """Jobs of any state, newest first."""

    async def forget_payloads(self, job_id: str) -> None:
        """Drop what a job that is over was given, also where its error quotes it, and what it made; its files are
        gone already.
        """

    # --- the runner

    async def claim(self, owner: str, lease_s: float, limit: int) -> list[Claim]:
        """Up to `limit` jobs that are queued (start deadline not passed) or whose lease has expired: by priority, then
        oldest first.
        """

    async def heartbeat(self, lease: Lease, lease_s: float) -> Heartbeat:
        """Extend the lease by `lease_s` from now, and hear whether the job is still this holder's."""

    async def report(
        self, lease: Lease, progress: Progress, lines: Sequence[str] = (), level: str = "INFO"
    ) -> bool:
        """Record progress, and add `lines` to the log. Like all writes under a lease: False, and nothing written, when
        it is lost.
        """

    async def record_piece(self, lease: Lease, number: int, piece: Json) -> bool:
        """Remember a finished piece, for whoever takes the job over."""

    async def pieces(self, job_id: str) -> dict[int, Json]:
        """The recorded pieces by chunk number."""

    async def complete(self, lease: Lease, result: Json) -> bool: ...

    async def fail(self, lease: Lease, error: WireError) -> bool: ...

    async def release(self, lease: Lease) -> bool:
        """Give the job back at once: QUEUED in its old place, token kept so that this lease is stale."""

    async def cleaned(self, lease: Lease) -> None:
        """The holder of a cancelled job has removed its files."""

    # --- upkeep

    async def expire_waiting(self) -> list[str]:
        """Fail queued jobs that no runner took before their start deadline, and return their ids."""

    async def expired(self, retention: Retention, limit: int) -> Expired:
        """Finished jobs past their time. Results that were not to be kept are dropped in passing."""

    async def files_deleted(self, job_ids: Sequence[str]) -> None:
        """Their files are gone: `expired` need not name them again."""

    async def delete(self, job_ids: Sequence[str]) -> None:
        """Forget finished jobs, with log, pieces and deliveries."""

    async def unfinished(self, job_ids: Sequence[str]) -> set[str]:
        """Those of `job_ids` whose work files belong to somebody: jobs that are not over, and cancelled ones whose
        holder still has a valid lease.
        """

    async def recent(self, limit: int) -> list[Job]:
        """The newest jobs, newest first."""

    async def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state; every state is a key."""
