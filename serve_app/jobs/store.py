"""The durable side of a job: what the table promises, whatever database is below.

    QUEUED ──claim──▶ RUNNING ──complete──▶ COMPLETED
      ▲ │ │              │ │─────fail─────▶ FAILED
      │ │ └─start deadline passed────────▶ FAILED
      │ └───request_cancel─│─────────────▶ CANCELLED
      └──────release───────┘   (an expired lease is claimed again, state stays RUNNING)

The HTTP face inserts, reads and cancels; a runner claims jobs under leases. A lease carries a fencing token that
grows with each claim: whoever lost a lease (it expired and another runner claimed the job, or the job was
cancelled) holds a stale token, and every write with it is refused. Terminal states are final. All times are seconds
of the DATABASE's clock.

A cancelled job is terminal at once, whoever works on it. Its holder hears of it with the next heartbeat, stops,
removes its files and calls `cleaned`; until then the job keeps `owner` and the lease's expiry, so that the sweeper
knows whether somebody still cleans up.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Outcome(StrEnum):
    """How a job ended, for whom it may concern."""

    SUCCESS = "success"
    USER_ERROR = "user_error"  # a status below 500: the input was wrong, or the job was cancelled
    ERROR = "error"


class CancelOutcome(StrEnum):
    """What `request_cancel` found."""

    CANCELLED = "CANCELLED"  # terminal now
    ALREADY_TERMINAL = "ALREADY_TERMINAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert.

    input: the request as JSON (`JobRequest.as_json`), gone when the job ends.
    payload: what the client sent, for its history (large data URIs shortened); None keeps none.
    account: whose job it is; None without API keys.
    idempotency_key, fingerprint: the client's key, and the digest of the request that it stands for.
    start_timeout_s: how long the job may wait for a runner, from now.
    retry: False ends the job where a lost runner or replica would have it tried again.
    keep_result: False drops the result soon after the end (`X-Fal-Store-IO: 0`).
    lifetime_s: of its files, from the end on; None is the service's default, infinity keeps them.
    webhook: URL to tell of the end; files_url: what the URLs of files in that message begin with.
    error: the job is FAILED from the start (its input was not valid).
    """

    id: str
    input: Json
    payload: Json | None = None
    priority: Priority = Priority.NORMAL
    account: str | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    start_timeout_s: float | None = None
    hint: str | None = None
    retry: bool = True
    keep_result: bool = True
    lifetime_s: float | None = None
    webhook: str | None = None
    files_url: str | None = None
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    stage: str = ""
    frames_done: int = 0
    frames_total: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's log. `number` grows with time; numbers of one job need not be consecutive."""

    number: int
    at: float
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job until `expires_at`."""

    job_id: str
    owner: str
    token: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to a heartbeat. When `held` is false, stop.

    `cancelled`: the job was cancelled under this very lease, so its files are the holder's to remove; otherwise
    somebody else has the job, or it is gone.
    """

    held: bool
    cancelled: bool = False
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """A row as readers see it. The input is left out: it can hold a whole video as a data URI."""

    number: int
    id: str
    state: JobState
    priority: Priority
    created_at: float
    account: str | None = None
    fingerprint: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    owner: str | None = None
    token: int = 0
    attempts: int = 0  # claims that did not end in a release: above 1, a runner was lost over this job
    progress: Progress = field(default_factory=Progress)
    retry: bool = True
    hint: str | None = None
    payload: Json | None = None
    result: Json | None = None
    result_taken: bool = False
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A job handed to a runner."""

    job: Job
    lease: Lease
    input: Json


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds after a job's end: until its files go, until its row goes (never before its files), and until a result
    goes that was not to be kept. None keeps for ever.
    """

    files_s: float | None = 7 * 86400.0
    jobs_s: float | None = 30 * 86400.0
    unkept_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Expired:
    """What a sweep found: jobs whose files are to be deleted (`files`), and to be forgotten whole (`jobs`)."""

    files: list[str]
    jobs: list[str]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Which of an account's jobs to list: those created in [`since`, `until`) with a number below `before`.

    payloads: False leaves `payload` and `result` of the jobs out.
    """

    account: str | None
    limit: int
    before: int | None = None
    since: float | None = None
    until: float | None = None
    outcome: Outcome | None = None
    job_id: str | None = None
    payloads: bool = False


class JobStore(Protocol):
    """The job table. Every method is one transaction and safe under any number of processes."""

    async def open(self) -> None:
        """Connect. Raises `SchemaOutdated` when the schema is not this version's (`migrate` makes it so)."""

    async def close(self) -> None: ...

    # --- the HTTP face

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

    async def report(self, lease: Lease, progress: Progress, lines: Sequence[str] = ()) -> bool:
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
