"""Quotas on jobs, checked in the transaction that inserts one, so that they hold over all replicas."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, literal, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from serve_app.database.tables import jobs, now
from serve_app.errors import QuotaExceeded
from serve_app.jobs.model import JobState
from serve_app.jobs.sql.transitions import UNFINISHED
from serve_app.settings import Quota, QuotaSettings

DAY_S = 86400.0
_WAITING = (JobState.QUEUED.value,)
LOCK = 0x62697266  # the first key of the advisory locks; the second is the account's hash


async def check_quotas(connection: AsyncConnection, account: str, quotas: QuotaSettings) -> None:
    """Raises `QuotaExceeded` if one more job would exceed a quota. To be called in a writing transaction."""
    if quotas.overall.limits_jobs:
        await _lock(connection, "")
        await _check(connection, true(), quotas.overall, "all clients together")
    if quotas.account.limits_jobs:
        await _lock(connection, f"account {account}")
        await _check(connection, jobs.c.account == account, quotas.account, "this account")


async def _lock(connection: AsyncConnection, name: str) -> None:
    """Two inserts that count at the same time would both pass. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(
            select(func.pg_advisory_xact_lock(literal(LOCK), func.hashtext(literal(name))))
        )


async def _check(connection: AsyncConnection, whose: ColumnElement[bool], quota: Quota, who: str) -> None:
    limits = (("waiting", _WAITING, quota.queued), ("unfinished", UNFINISHED, quota.unfinished))
    for word, states, limit in limits:
        if limit is None:
            continue
        counted = await connection.scalar(select(func.count()).where(whose, jobs.c.state.in_(states)))
        if int(counted or 0) >= limit:
            raise QuotaExceeded(
                f"{counted} jobs of {who} are {word}, and {limit} may be: submit again when one has ended."
            )
    if quota.frames_per_day is not None:
        recent = select(func.sum(jobs.c.frames_done)).where(whose, jobs.c.created_at > now() - DAY_S)
        frames = int(await connection.scalar(recent) or 0)
        if frames >= quota.frames_per_day:
            raise QuotaExceeded(
                f"{frames} frames were computed for {who} in the last 24 hours, and {quota.frames_per_day} may be: "
                "submit again later."
            )
