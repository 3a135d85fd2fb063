"""The API's queries: insert, read, cancel."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, case, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from serve_app.database.engine import Database, uninterrupted
from serve_app.database.tables import events, inputs, jobs, now
from serve_app.errors import JobCancelled, QuotaExceeded, to_wire
from serve_app.jobs.model import CancelOutcome, Event, Job, JobState, NewJob
from serve_app.jobs.sql.quotas import check_quotas
from serve_app.jobs.sql.rows import job_columns, new_row, to_event, to_job
from serve_app.jobs.sql.transitions import UNFINISHED, end, log, record_end
from serve_app.settings import QuotaSettings

UNOWNED = "-"  # owner of a job cancelled after its release: no runner cleans up, so the sweeper does

# Built once: every waiting client polls several times a second.
_GET = select(*job_columns).where(jobs.c.id == bindparam("id"))
_BY_KEY = select(*job_columns).where(
    jobs.c.account == bindparam("account"), jobs.c.idempotency_key == bindparam("key")
)
_EVENTS = (
    select(events)
    .where(events.c.job_id == bindparam("job_id"), events.c.number > bindparam("after"))
    .order_by(events.c.number)
)
_POSITION = select(func.count()).where(
    jobs.c.state == JobState.QUEUED.value,
    or_(
        jobs.c.priority < bindparam("priority"),
        and_(jobs.c.priority == bindparam("priority"), jobs.c.number < bindparam("number")),
    ),
)
_WAITING = select(func.count()).where(jobs.c.state == JobState.QUEUED.value)


class RequestQueries:
    """Implements `JobRequests`, but for its history."""

    _database: Database

    async def insert(self, job: NewJob, quotas: QuotaSettings | None = None) -> Job:
        try:
            return await self._insert(job, quotas)
        except (IntegrityError, QuotaExceeded) as error:
            known = (
                await self.by_idempotency_key(job.account, job.idempotency_key)
                if job.idempotency_key
                else None
            )
            if known is None and isinstance(error, QuotaExceeded):
                raise
            if known is None or known.id == job.id:
                raise ValueError(f"a job with the id {job.id} exists") from error
            return known

    async def get(self, job_id: str) -> Job | None:
        rows = await self._database.read(_GET, {"id": job_id})
        return to_job(rows[0]) if rows else None

    async def by_idempotency_key(self, account: str | None, idempotency_key: str) -> Job | None:
        rows = await self._database.read(_BY_KEY, {"account": account or "", "key": idempotency_key})
        return to_job(rows[0]) if rows else None

    async def events(self, job_id: str, after: int = 0) -> list[Event]:
        rows = await self._database.read(_EVENTS, {"job_id": job_id, "after": after})
        return [to_event(row) for row in rows]

    async def position(self, job: Job) -> int:
        (row,) = await self._database.read(_POSITION, {"priority": int(job.priority), "number": job.number})
        return int(row[0])

    async def waiting(self) -> int:
        (row,) = await self._database.read(_WAITING)
        return int(row[0])

    async def counts(self) -> dict[JobState, int]:
        rows = await self._database.scan(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        found = {row[0]: row[1] for row in rows}
        return {state: found.get(state.value, 0) for state in JobState}

    @uninterrupted
    async def request_cancel(self, job_id: str) -> CancelOutcome:
        released = and_(jobs.c.token > 0, jobs.c.owner.is_(None))
        async with self._database.writing() as connection:
            ended = await end(
                connection,
                and_(jobs.c.id == job_id, jobs.c.state.in_(UNFINISHED)),
                JobState.CANCELLED,
                to_wire(JobCancelled("Request was cancelled")),
                owner=case((released, UNOWNED), else_=jobs.c.owner),
                expires_at=case((released, now()), else_=jobs.c.expires_at),
            )
            if ended:
                return CancelOutcome.CANCELLED
            known = (await connection.execute(select(jobs.c.id).where(jobs.c.id == job_id))).first()
        return CancelOutcome.ALREADY_TERMINAL if known else CancelOutcome.UNKNOWN

    @uninterrupted
    async def take_result(self, job_id: str) -> bool:
        statement = update(jobs).where(
            jobs.c.id == job_id, jobs.c.state == JobState.COMPLETED.value, ~jobs.c.result_taken
        )
        async with self._database.writing() as connection:
            return (await connection.execute(statement.values(result_taken=True))).rowcount == 1

    @uninterrupted
    async def forget_result(self, job_id: str) -> None:
        statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == JobState.COMPLETED.value)
        async with self._database.writing() as connection:
            await connection.execute(statement.values(result=None))

    @uninterrupted
    async def _insert(self, job: NewJob, quotas: QuotaSettings | None) -> Job:
        statement = insert(jobs).values(new_row(job)).returning(*job_columns)
        async with self._database.writing() as connection:
            if quotas is not None and job.error is None:
                await check_quotas(connection, job.account or "", quotas)
            row = (await connection.execute(statement)).one()
            if job.error is not None:
                await record_end(connection, job.id, JobState.FAILED, job.error, job.webhook)
            else:
                await connection.execute(insert(inputs).values(job_id=job.id, input=job.input))
                await log(connection, job.id, ["queued"])
        return to_job(row)
