"""Webhooks to be sent: rows that a job's end has written, taken by dispatchers under leases.

`attempts` grows with each claim and is the fencing token: a dispatcher that lost its lease changes nothing any more. An
attempt whose dispatcher died has happened, as far as anybody knows.
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

PEEKED = 200


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is due."""

    job_id: str
    url: str

    @property
    def receiver(self) -> str:
        return receiver_of(self.url)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery in a dispatcher's hands: attempt number `attempt`, from 1. `expired`: the job's files are gone."""

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
    """The table of deliveries. `first_s` and `retry_s`: how long the lease of a first and of a later attempt lasts."""

    def __init__(self, url: str, first_s: float, retry_s: float) -> None:
        self._database = Database(url)
        self._lease_s = case((deliveries.c.attempts == 0, first_s), else_=retry_s)

    async def close(self) -> None:
        await self._database.close()

    async def due(self, busy: Iterable[str] = ()) -> list[Waiting]:
        """What could be sent now, the longest overdue first, without what is for the receivers in `busy`."""
        statement = select(deliveries.c.job_id, deliveries.c.url).where(_due(), *(not_(_at(r)) for r in busy))
        rows = await self._database.read(statement.order_by(deliveries.c.next_at).limit(PEEKED))
        return [Waiting(row.job_id, row.url) for row in rows]

    @uninterrupted
    async def claim(self, owner: str, job_ids: Sequence[str]) -> list[Delivery]:
        """Those of `job_ids` that no other dispatcher has taken in the meantime."""
        # As for jobs: a row that another process is about to change is skipped, and the choice is made once.
        free = (
            select(deliveries.c.job_id)
            .where(deliveries.c.job_id.in_(job_ids), _due())
            .with_for_update(skip_locked=True)
            .cte("free", nesting=True)
        )
        taking = (
            update(deliveries)
            .where(deliveries.c.job_id.in_(select(free.c.job_id)))
            .values(owner=owner, attempts=deliveries.c.attempts + 1, expires_at=now() + self._lease_s)
            .returning(deliveries.c.job_id)
        )
        async with self._database.writing() as connection:
            taken = (await connection.execute(taking)).scalars().all()
            whole = (
                select(*job_columns, jobs.c.files_url, jobs.c.files_deleted)
                .add_columns(deliveries.c.url, deliveries.c.attempts.label("attempt"))
                .join(deliveries, deliveries.c.job_id == jobs.c.id)
                .where(jobs.c.id.in_(taken))
            )
            rows = (await connection.execute(whole)).all() if taken else []
        return [
            Delivery(to_job(row), row.url, row.attempt, owner, row.files_url, row.files_deleted)
            for row in rows
        ]

    async def finish(self, delivery: Delivery, line: str, error: str | None = None) -> None:
        """There is nothing more to do: it was delivered, or (with `error`) it never will be."""
        await self._end(
            delivery, {"done": True, "last_error": error}, line, LogLevel.WARN if error else LogLevel.INFO
        )

    async def again(self, delivery: Delivery, delay_s: float, line: str, error: str) -> None:
        await self._end(delivery, {"next_at": now() + delay_s, "last_error": error}, line, LogLevel.WARN)

    async def give_back(self, delivery: Delivery) -> None:
        """The attempt was broken off from our side: whoever comes next makes it again at once."""
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
            if written and line:  # the job is over: nobody else adds to its log
                await log(connection, delivery.job.id, [line], level)


def receiver_of(url: str) -> str:
    """Scheme, host and port of a URL, as it is written there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _due() -> ColumnElement[bool]:
    free = or_(deliveries.c.expires_at.is_(None), deliveries.c.expires_at < now())
    return and_(~deliveries.c.done, deliveries.c.next_at <= now(), free)


def _at(receiver: str) -> ColumnElement[bool]:
    url = deliveries.c.url
    return or_(url == receiver, *(url.startswith(receiver + end, autoescape=True) for end in "/?#"))
