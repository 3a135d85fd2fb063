"""The value objects of the job table, and the states of a job.

    QUEUED ──claim──▶ RUNNING ──complete──▶ COMPLETED
      ▲ │ │              │ │─────fail─────▶ FAILED
      │ │ └─start deadline passed────────▶ FAILED
      │ └───request_cancel─│─────────────▶ CANCELLED
      └──────release───────┘   (an expired lease is claimed again, state stays RUNNING)

The API inserts, reads and cancels jobs; a runner claims them under leases. A lease carries a fencing token that grows
with each claim: a runner that lost its lease (it expired and another runner claimed the job, or the job was cancelled)
holds a stale token, and every write with it is refused. Terminal states are final. All times are seconds of the
database's clock.

A cancelled job is terminal at once, even while a runner works on it. That runner learns of it with its next heartbeat,
stops, removes the job's files and calls `cleaned`. Until then the job keeps `owner` and the lease's expiry, so that the
sweeper knows whether a runner is still cleaning up.
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
    """The state of a job. The last three are terminal."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Priority(IntEnum):
    """Smaller values run first: every NORMAL job before any LOW one."""

    NORMAL = 0
    LOW = 1


class Outcome(StrEnum):
    """How a finished job is classified in the history."""

    SUCCESS = "success"
    USER_ERROR = "user_error"  # a status below 500: the input was wrong, or the job was cancelled
    ERROR = "error"


class CancelOutcome(StrEnum):
    """The result of `request_cancel`."""

    CANCELLED = "CANCELLED"  # terminal now
    ALREADY_TERMINAL = "ALREADY_TERMINAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to insert.

    input: the request as JSON (`JobRequest.as_json`); deleted when the job ends.
    payload: the request body for the client's history (large data URIs shortened); None if it is not kept.
    account: the account of the API key; None if keys are not required.
    idempotency_key, fingerprint: the client's key, and the digest of the request that it identifies.
    start_timeout_s: how long the job may wait for a runner, from now.
    retry: False fails the job, instead of retrying it, when its runner or a replica is lost.
    keep_result: False drops the result soon after the end (`X-Fal-Store-IO: 0`).
    lifetime_s: how long its files are kept after the end; None is the service's default, infinity keeps them.
    webhook: URL to notify of the end; files_url: the base of the file URLs in that notification.
    error: inserts the job as FAILED (its input was not valid).
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
    """Progress of a job. Rate and remaining time are None until frames have been measured."""

    stage: str = ""
    frames_done: int = 0
    frames_total: int = 0
    frames_per_second: float | None = None
    seconds_left: float | None = None


class LogLevel(StrEnum):
    """Level of a line in a job's log. Lines that only repeat the progress are DEBUG."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's log. `number` increases; the numbers of one job need not be consecutive."""

    number: int
    at: float
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one job, valid while it is renewed in time."""

    job_id: str
    owner: str
    token: int


def lease_owner() -> str:
    """A unique name for a process that takes leases, with its host and process id for people to read."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The reply to a heartbeat. The holder must stop if `held` is false.

    cancelled: the job was cancelled under this lease, so the holder removes its files. Otherwise another runner has
    the job, or it was deleted.
    """

    held: bool
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job as readers see it, without its input, which can hold a whole video as a data URI."""

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
    attempts: int = (
        0  # claims since the last recorded piece, but those released: above 1, a runner was lost since
    )
    progress: Progress = field(default_factory=Progress)
    retry: bool = True
    payload: Json | None = None
    result: Json | None = None
    result_taken: bool = False
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A job claimed by a runner, with its lease and input."""

    job: Job
    lease: Lease
    input: Json


@dataclass(frozen=True, slots=True)
class Expired:
    """Ids of jobs whose files are to be deleted (`files`), and of jobs to be deleted entirely (`jobs`)."""

    files: list[str]
    jobs: list[str]


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A query for an account's jobs: those created in [`since`, `until`) with a number below `before`.

    payloads: whether to read `payload` and `result` of the jobs.
    """

    account: str | None
    limit: int
    before: int | None = None
    since: float | None = None
    until: float | None = None
    outcome: Outcome | None = None
    job_id: str | None = None
    payloads: bool = False
