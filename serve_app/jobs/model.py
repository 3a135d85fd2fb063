"""The durable side of a job: what the table promises, whatever database is below.

    QUEUED ──claim──▶ RUNNING ──complete──▶ COMPLETED
      ▲ │ │              │ │─────fail─────▶ FAILED
      │ │ └─start deadline passed────────▶ FAILED
      │ └───request_cancel─│─────────────▶ CANCELLED
      └──────release───────┘   (an expired lease is claimed again, state stays RUNNING)

The API inserts, reads and cancels; a runner claims jobs under leases. A lease carries a fencing token that
grows with each claim: whoever lost a lease (it expired and another runner claimed the job, or the job was
cancelled) holds a stale token, and every write with it is refused. Terminal states are final. All times are seconds
of the DATABASE's clock.

A cancelled job is terminal at once, whoever works on it. Its holder hears of it with the next heartbeat, stops,
removes its files and calls `cleaned`; until then the job keeps `owner` and the lease's expiry, so that the sweeper
knows whether somebody still cleans up.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

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
    retry: bool = True
    keep_result: bool = True
    lifetime_s: float | None = None
    webhook: str | None = None
    files_url: str | None = None
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. Rate and remaining time are None as long as no frame has been measured."""

    stage: str = ""
    frames_done: int = 0
    frames_total: int = 0
    frames_per_second: float | None = None
    seconds_left: float | None = None


class LogLevel(StrEnum):
    """How much a line of a job's log matters. Lines that only repeat the progress are DEBUG."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's log. `number` grows with time; numbers of one job need not be consecutive."""

    number: int
    at: float
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job, for as long as it is renewed in time."""

    job_id: str
    owner: str
    token: int


def lease_owner() -> str:
    """A new name for a process that takes leases: no two are the same, and people can tell where it runs."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to a heartbeat. When `held` is false, stop.

    `cancelled`: the job was cancelled under this very lease, so its files are the holder's to remove; otherwise
    somebody else has the job, or it is gone.
    """

    held: bool
    cancelled: bool = False


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
