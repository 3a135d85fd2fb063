"""The outbox of webhooks: rows written at the end of a job, claimed by dispatchers under leases.

`attempts` grows with each claim and is the fencing token: writes of a dispatcher that lost its lease have no effect. An
attempt whose dispatcher died counts, since the receiver may have been notified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, and_, case, not_, or_, select, update

from serve_app.database.engine import Database, uninterrupted
from serve_app.database.tables import deliveries, jobs, now
from serve_app.jobs.model import Job, LogLevel
from serve_app.jobs.sql.rows import job_columns, to_job
from serve_app.jobs.sql.transitions import log

DUE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is due."""

    job_id: str
    url: str

    @property
    def receiver(self) -> str:
        return receiver_of(self.url)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery claimed by a dispatcher. `attempt` counts from 1; `expired`: the job's files were deleted."""

    job: Job
    url: str
    attempt: int
    owner: str
    files_url: str | None = None
    expired: bool = False

    @property
    def receiver(self) -> str:
        return receiver_of(self.url)


class Outbox:
    """The table of deliveries. `first_s`, `retry_s`: length of the lease for the first and for later attempts."""

    def __init__(self, url: str, first_s: float, retry_s: float) -> None:
        self._database = Database(url)
        self._lease_s = case((deliveries.c.attempts == 0, first_s), else_=retry_s)

    async def close(self) -> None:
        await self._database.close()

    async def due(self, busy: Iterable[str] = ()) -> list[DueDelivery]:
        """Up to `DUE_LIMIT` due deliveries, the longest overdue first, except those to the receivers in `busy`."""
        statement = select(deliveries.c.job_id, deliveries.c.url).where(_due(), *(not_(_to(r)) for r in busy))
        rows = await self._database.read(statement.order_by(deliveries.c.next_at).limit(DUE_LIMIT))
        return [DueDelivery(row.job_id, row.url) for row in rows]

    @uninterrupted
    async def claim(self, owner: str, job_ids: Sequence[str]) -> list[Delivery]:
        """Claims the webhooks of `job_ids`, and returns those that no other dispatcher has claimed."""
        # As for jobs: skips rows that another process has locked, and evaluates the selection once.
        free = (
            select(deliveries.c.job_id)
            .where(deliveries.c.job_id.in_(job_ids), _due())
            .with_for_update(skip_locked=True)
            .cte("free", nesting=True)
        )
        statement = (
            update(deliveries)
            .where(deliveries.c.job_id.in_(select(free.c.job_id)))
            .values(owner=owner, attempts=deliveries.c.attempts + 1, expires_at=now() + self._lease_s)
            .returning(deliveries.c.job_id)
        )
        async with self._database.writing() as connection:
            claimed = (await connection.execute(statement)).scalars().all()
            details = (
                select(*job_columns, jobs.c.files_url, jobs.c.files_deleted)
                .add_columns(deliveries.c.url, deliveries.c.attempts.label("attempt"))
                .join(deliveries, deliveries.c.job_id == jobs.c.id)
                .where(jobs.c.id.in_(claimed))
            )
            rows = (await connection.execute(details)).all() if claimed else []
        return [
            Delivery(to_job(row), row.url, row.attempt, owner, row.files_url, row.files_deleted)
            for row in rows
        ]

    async def finish(self, delivery: Delivery, line: str, error: str | None = None) -> None:
        """Ends the delivery: it succeeded, or (with `error`) is given up."""
        await self._end(
            delivery, {"done": True, "last_error": error}, line, LogLevel.WARN if error else LogLevel.INFO
        )

    async def retry_later(self, delivery: Delivery, delay_s: float, line: str, error: str) -> None:
        """Schedules another attempt in `delay_s` seconds."""
        await self._end(delivery, {"next_at": now() + delay_s, "last_error": error}, line, LogLevel.WARN)

    async def release(self, delivery: Delivery) -> None:
        """Returns a cancelled attempt to the outbox: it is due at once and does not count."""
        await self._end(delivery, {"attempts": deliveries.c.attempts - 1})

    @uninterrupted
    async def _end(
        self, delivery: Delivery, values: dict[str, Any], line: str = "", level: LogLevel = LogLevel.INFO
    ) -> None:
        held = and_(
            deliveries.c.job_id == delivery.job.id,
            deliveries.c.owner == delivery.owner,
            deliveries.c.attempts == delivery.attempt,
        )
        statement = update(deliveries).where(held).values(owner=None, expires_at=None, **values)
        async with self._database.writing() as connection:
            written = (await connection.execute(statement)).rowcount == 1
            if written and line:  # the job has ended, so its log has no other writers
                await log(connection, delivery.job.id, [line], level)


def receiver_of(url: str) -> str:
    """Scheme, host and port of a URL, as written in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _due() -> ColumnElement[bool]:
    free = or_(deliveries.c.expires_at.is_(None), deliveries.c.expires_at < now())
    return and_(~deliveries.c.done, deliveries.c.next_at <= now(), free)


def _to(receiver: str) -> ColumnElement[bool]:
    url = deliveries.c.url
    return or_(url == receiver, *(url.startswith(receiver + end, autoescape=True) for end in "/?#"))
