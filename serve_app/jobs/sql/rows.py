"""Conversion between rows of the job table and value objects."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, null

from serve_app.database.tables import jobs, now
from serve_app.errors import WireError
from serve_app.jobs.model import Event, Job, JobState, LogLevel, NewJob, Priority, Progress

job_columns = (
    jobs.c.number,
    jobs.c.id,
    jobs.c.state,
    jobs.c.priority,
    jobs.c.created_at,
    jobs.c.account,
    jobs.c.fingerprint,
    jobs.c.started_at,
    jobs.c.finished_at,
    jobs.c.owner,
    jobs.c.token,
    jobs.c.attempts,
    jobs.c.stage,
    jobs.c.frames_done,
    jobs.c.frames_total,
    jobs.c.frames_per_second,
    jobs.c.seconds_left,
    jobs.c.retry,
    jobs.c.payload,
    jobs.c.result,
    jobs.c.result_taken,
    jobs.c.error,
)


def to_job(row: Row[Any]) -> Job:
    """The job in a row that has at least `job_columns`."""
    return Job(
        number=row.number,
        id=row.id,
        state=JobState(row.state),
        priority=Priority(row.priority),
        created_at=row.created_at,
        account=row.account or None,
        fingerprint=row.fingerprint,
        started_at=row.started_at,
        finished_at=row.finished_at,
        owner=row.owner,
        token=row.token,
        attempts=row.attempts,
        progress=Progress(
            row.stage, row.frames_done, row.frames_total, row.frames_per_second, row.seconds_left
        ),
        retry=row.retry,
        payload=row.payload,
        result=row.result,
        result_taken=row.result_taken,
        error=WireError(**row.error) if row.error else None,
    )


def to_event(row: Row[Any]) -> Event:
    return Event(row.number, row.at, LogLevel(row.level), row.message)


def new_row(job: NewJob) -> dict[str, Any]:
    """The columns of a job to insert. Its input goes into a separate table."""
    start_by: ColumnElement[Any] = null() if job.start_timeout_s is None else now() + job.start_timeout_s
    return {
        "id": job.id,
        "state": (JobState.FAILED if job.error else JobState.QUEUED).value,
        "priority": int(job.priority),
        "created_at": now(),
        "finished_at": now() if job.error else None,
        "token": 0,
        "attempts": 0,
        "error": asdict(job.error) if job.error else None,
        "account": job.account or "",
        "idempotency_key": job.idempotency_key,
        "fingerprint": job.fingerprint,
        "start_by": start_by,
        "retry": job.retry,
        "keep_result": job.keep_result,
        "lifetime_s": job.lifetime_s,
        "webhook": job.webhook,
        "files_url": job.files_url,
        "payload": job.payload,
        "result_taken": False,
        "files_deleted": False,
        **asdict(Progress()),
    }
