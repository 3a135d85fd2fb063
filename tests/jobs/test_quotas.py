"""Quotas on jobs, in both databases, from concurrent connections."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from serve_app.errors import QuotaExceeded
from serve_app.jobs.model import NewJob, Progress
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import Quota, QuotaSettings

JOB = NewJob("alice-0", {}, account="alice")


def job(account: str, number: int) -> NewJob:
    return replace(JOB, id=f"{account}-{number}", account=account)


async def test_concurrent_submissions_stay_within_the_quota(store: SqlJobStore) -> None:
    quotas = QuotaSettings(account=Quota(queued=3), overall=Quota(queued=5))
    alice = await asyncio.gather(
        *(store.insert(job("alice", n), quotas) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(reply, QuotaExceeded) for reply in alice) == 7
    bob = await asyncio.gather(
        *(store.insert(job("bob", n), quotas) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(reply, QuotaExceeded) for reply in bob) == 8
    assert any("all clients together" in str(reply) for reply in bob)
    assert await store.waiting() == 5


async def test_running_jobs_leave_the_queue_but_are_unfinished(store: SqlJobStore) -> None:
    queued, unfinished = (QuotaSettings(account=quota) for quota in (Quota(queued=1), Quota(unfinished=1)))
    await store.insert(job("alice", 0), queued)
    (claim,) = await store.claim("runner", 60.0, 1)
    with pytest.raises(QuotaExceeded, match="1 jobs of this account are unfinished, and 1 may be"):
        await store.insert(job("alice", 1), unfinished)
    await store.insert(job("alice", 1), queued)
    await store.insert(job("bob", 0), unfinished)
    await store.complete(claim.lease, {})
    await store.request_cancel("alice-1")
    await store.insert(job("alice", 2), unfinished)


async def test_frames_of_the_last_day(store: SqlJobStore) -> None:
    quotas = QuotaSettings(account=Quota(frames_per_day=100))
    await store.insert(job("alice", 0), quotas)
    (claim,) = await store.claim("runner", 60.0, 1)
    await store.report(claim.lease, Progress("frames", 99, 200))
    await store.insert(job("alice", 1), quotas)
    await store.report(claim.lease, Progress("frames", 100, 200))
    with pytest.raises(QuotaExceeded, match="100 frames"):
        await store.insert(job("alice", 2), quotas)
    await store.insert(job("bob", 0), quotas)


async def test_a_repeated_request_is_no_new_job(store: SqlJobStore) -> None:
    quotas = QuotaSettings(account=Quota(queued=1))
    first = await store.insert(replace(JOB, idempotency_key="k"), quotas)
    again = await store.insert(replace(JOB, id="other", idempotency_key="k"), quotas)
    assert again.id == first.id
