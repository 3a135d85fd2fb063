"""Queries over past jobs, and the deletion of their payloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from sqlalchemy import ColumnElement, and_, null, select, update

from serve_app.database.engine import Database, uninterrupted
from serve_app.database.tables import jobs
from serve_app.errors import WireError
from serve_app.jobs.model import HistoryPage, Job, JobState, Outcome
from serve_app.jobs.sql.rows import job_columns, to_job
from serve_app.jobs.sql.transitions import TERMINAL

_PAYLOADS = ("payload", "result")
_WITHOUT_PAYLOADS = [
    null().label(column.name) if column.name in _PAYLOADS else column for column in job_columns
]
_STATUS: ColumnElement[int] = jobs.c.error["status"].as_integer()


class HistoryQueries:
    """The history part of `JobRequests`."""

    _database: Database

    async def history(self, page: HistoryPage) -> list[Job]:
        statement = (
            select(*(job_columns if page.payloads else _WITHOUT_PAYLOADS))
            .where(*_conditions(page))
            .order_by(jobs.c.number.desc())
            .limit(page.limit)
        )
        return [to_job(row) for row in await self._database.scan(statement)]

    @uninterrupted
    async def forget_payloads(self, job_id: str) -> None:
        finished = and_(jobs.c.id == job_id, jobs.c.state.in_(TERMINAL))
        found = await self._database.read(select(jobs.c.error).where(finished))
        if not found:
            return
        # The error of a finished job has no other writers.
        error = _without_input(WireError(**found[0].error)) if found[0].error else None
        statement = (
            update(jobs)
            .where(finished)
            .values(payload=None, result=None, error=asdict(error) if error else None, files_deleted=True)
        )
        async with self._database.writing() as connection:
            await connection.execute(statement)


def _conditions(page: HistoryPage) -> Iterator[ColumnElement[bool]]:
    yield jobs.c.account == (page.account or "")
    if page.before is not None:
        yield jobs.c.number < page.before
    if page.job_id is not None:
        yield jobs.c.id == page.job_id
    if page.since is not None:
        yield jobs.c.created_at >= page.since
    if page.until is not None:
        yield jobs.c.created_at < page.until
    if page.outcome is Outcome.SUCCESS:
        yield jobs.c.state == JobState.COMPLETED.value
    elif page.outcome is Outcome.USER_ERROR:
        yield _STATUS < 500
    elif page.outcome is Outcome.ERROR:
        yield _STATUS >= 500


def _without_input(error: WireError) -> WireError:
    """The error without the input values that it quotes."""
    detail = error.body.get("detail")
    if not isinstance(detail, list):
        return error
    items = [{key: value for key, value in item.items() if key != "input"} for item in detail]
    return WireError(error.status, error.body | {"detail": items}, error.headers)
