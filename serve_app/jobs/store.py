"""The durable side of a job: what the table promises, whatever database is below.

    QUEUED ──claim──▶ RUNNING ──complete──▶ COMPLETED
      ▲  │               │ │─────fail─────▶ FAILED
      │  └─request_cancel│ └───cancelled──▶ CANCELLED
      └──────release─────┘   (an expired lease is claimed again, state stays RUNNING)

The HTTP face inserts, reads and asks for cancellation; a runner claims jobs under leases. A lease carries a
fencing token that grows with each claim: whoever lost a lease (it expired and another runner claimed the job)
holds a stale token, and every write with it is refused. All times are seconds of the DATABASE's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from serve_app.errors import WireError

Json = dict[str, Any]


class JobState(StrEnum):
    """Where a job stands. The last three are terminal."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Priority(IntEnum):
    """Smaller runs first: every NORMAL job goes before any LOW one."""

    NORMAL = 0
    LOW = 1


class CancelOutcome(StrEnum):
    """What `request_cancel` found."""

    CANCELLED = "CANCELLED"  # no runner had ever touched it: terminal now
    REQUESTED = "REQUESTED"  # flagged; a runner will clean up and end it
    ALREADY_TERMINAL = "ALREADY_TERMINAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert. `input` is the request as JSON (`JobRequest.as_json`)."""

    id: str
    input: Json
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, for people: shown by the command line, and by the log of a job later."""

    stage: str = ""
    frames_done: int = 0
    frames_total: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job until `expires_at`."""

    job_id: str
    owner: str
    token: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to a heartbeat. When `held` is false, stop: somebody else has the job, or it is over."""

    held: bool
    cancel_requested: bool
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A row as readers see it. The input is left out: it can hold a whole video as a data URI."""

    id: str
    state: JobState
    priority: Priority
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    owner: str | None = None
    token: int = 0
    cancel_requested: bool = False
    progress: Progress = field(default_factory=Progress)
    result: Json | None = None
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A job handed to a runner. `job.cancel_requested` may be set already: then only clean up."""

    job: Job
    lease: Lease
    input: Json


class JobStore(Protocol):
    """The job table. Every method is one transaction and safe under any number of processes."""

    async def open(self) -> None:
        """Connect; create what is missing. To be called once before anything else."""

    async def close(self) -> None: ...

    async def insert(self, job: NewJob) -> None:
        """Add a QUEUED job; `ValueError` when the id is taken."""

    async def get(self, job_id: str) -> Job | None: ...

    async def claim(self, owner: str, lease_s: float, limit: int) -> list[Claim]:
        """Up to `limit` jobs that are queued or whose lease has expired: by priority, then oldest first."""

    async def heartbeat(self, lease: Lease, lease_s: float) -> Heartbeat:
        """Extend the lease by `lease_s` from now, and hear whether cancellation was asked for."""

    async def progress(self, lease: Lease, progress: Progress) -> bool:
        """Record progress. Like all writes under a lease: False, and nothing written, when it is lost."""

    async def complete(self, lease: Lease, result: Json) -> bool: ...

    async def fail(self, lease: Lease, error: WireError) -> bool: ...

    async def cancelled(self, lease: Lease) -> bool:
        """End the job as CANCELLED; its error is `JobCancelled` on the wire."""

    async def release(self, lease: Lease) -> bool:
        """Give the job back at once: QUEUED in its old place, token kept so that this lease is stale."""

    async def forget_result(self, job_id: str) -> None:
        """Drop the result of a job that is over: it was given out and is not kept."""

    async def request_cancel(self, job_id: str) -> CancelOutcome:
        """A job no runner has touched ends at once; any other that is not over is flagged for its runner."""

    async def recent(self, limit: int) -> list[Job]:
        """The newest jobs, newest first."""

    async def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state; every state is a key."""
