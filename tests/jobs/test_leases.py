"""The job table on both databases: leases, fencing, cancellation and pieces."""

from __future__ import annotations

import pytest

from serve_app.database.tables import jobs
from serve_app.jobs.model import CancelOutcome, Heartbeat, JobState, Lease, Progress
from serve_app.jobs.sql.store import SqlJobStore
from tests.jobs.steps import (
    ERROR,
    EXPIRED_S,
    LEASE_S,
    claim_one,
    finished,
    get_job,
    log_lines,
    started,
    stored,
    submit,
)


async def assert_refused(store: SqlJobStore, stale: Lease) -> None:
    """Every write under `stale` is refused and changes nothing."""
    before = await store.get(stale.job_id), await store.events(stale.job_id), await store.pieces(stale.job_id)
    assert not (await store.heartbeat(stale, LEASE_S)).held
    assert not await store.report(stale, Progress("late"), ["late"])
    assert not await store.record_piece(stale, 0, {"late": True})
    assert not await store.complete(stale, {})
    assert not await store.fail(stale, ERROR)
    assert not await store.release(stale)
    after = await store.get(stale.job_id), await store.events(stale.job_id), await store.pieces(stale.job_id)
    assert after == before


async def test_an_expired_lease_is_claimed_again_and_writes_of_the_first_holder_are_refused(
    store: SqlJobStore,
) -> None:
    await submit(store, "one", "two")
    lost = (await claim_one(store, "a", EXPIRED_S)).lease
    taken = await claim_one(store, "b")
    assert taken.job.id == "one" and taken.job.state is JobState.RUNNING
    assert taken.lease.token == lost.token + 1 and taken.job.attempts == 2
    assert await store.record_piece(taken.lease, 0, {"name": "mine"})
    for stale in (lost, Lease("one", "b", lost.token), Lease("one", "a", taken.lease.token)):
        await assert_refused(store, stale)
        assert not (await store.heartbeat(stale, LEASE_S)).cancelled
        await store.cleaned(stale)
    assert (await store.heartbeat(taken.lease, LEASE_S)).held
    assert await store.complete(taken.lease, {})
    await assert_refused(store, taken.lease)


async def test_an_expired_lease_that_was_not_claimed_again_can_be_renewed(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store, "a", EXPIRED_S)).lease
    (before,) = await stored(store, jobs)
    beat = await store.heartbeat(lease, LEASE_S)
    assert beat.held and not beat.cancelled
    (after,) = await stored(store, jobs)
    assert after["expires_at"] > before["expires_at"] + LEASE_S
    assert await store.claim("b", LEASE_S, 1) == []


async def test_a_released_job_returns_to_its_queue_position(store: SqlJobStore) -> None:
    await submit(store, "one", "two")
    first = await claim_one(store)
    assert await store.release(first.lease)
    job = await get_job(store, "one", JobState.QUEUED)
    assert job.owner is None and await store.position(job) == 0
    await assert_refused(store, first.lease)
    again = await claim_one(store, "b")
    assert again.job.id == "one" and again.lease.token == 2 and again.job.started_at == first.job.started_at
    assert again.input == first.input
    assert again.job.attempts == 1  # a release does not count as a lost runner


async def test_pieces_are_kept_for_the_next_holder(store: SqlJobStore) -> None:
    lease = (await started(store, "one")).lease
    for number in (2, 0, 10):
        assert await store.record_piece(lease, number, {"name": f"a{number}"})
    assert await store.record_piece(lease, 2, {"name": "again"})
    await store.release(lease)
    lease = (await claim_one(store, "b")).lease
    assert await store.record_piece(lease, 1, {"name": "b1"})
    names = {0: "a0", 1: "b1", 2: "again", 10: "a10"}
    assert await store.pieces("one") == {number: {"name": name} for number, name in names.items()}
    assert await store.pieces("two") == {}


async def test_a_runner_that_is_lost_after_a_finished_piece_does_not_count(store: SqlJobStore) -> None:
    await submit(store, "one")
    for number in range(3):
        claim = await claim_one(store, lease_s=LEASE_S)
        assert claim.job.attempts == (2 if number else 1)
        assert await store.record_piece(claim.lease, number, {"name": "a"})
        assert (await store.heartbeat(claim.lease, EXPIRED_S)).held  # and it is lost
    for attempts in (2, 3):  # without a piece
        assert (await claim_one(store, lease_s=EXPIRED_S)).job.attempts == attempts


async def test_the_end_of_a_job_ends_its_pieces(store: SqlJobStore) -> None:
    lease = (await started(store, "one")).lease
    assert await store.record_piece(lease, 0, {"name": "a"})
    assert await store.complete(lease, {"video": None})
    assert await store.pieces("one") == {}


async def test_cancelling_a_queued_job(store: SqlJobStore) -> None:
    await submit(store, "one")
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    job = await get_job(store, "one", JobState.CANCELLED)
    assert job.finished_at is not None and job.owner is None
    assert job.error is not None and job.error.status == 499
    assert job.error.body == {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert await store.unfinished(["one"]) == set()
    assert await store.claim("a", LEASE_S, 1) == []
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    assert await log_lines(store, "one") == [("INFO", "queued"), ("INFO", "cancelled")]


async def test_cancelling_a_running_job_is_final_at_once_and_reported_by_the_heartbeat(
    store: SqlJobStore,
) -> None:
    lease = (await started(store, "one")).lease
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    assert (await get_job(store, "one", JobState.CANCELLED)).owner == "a"
    await assert_refused(store, lease)
    assert await store.heartbeat(lease, LEASE_S) == Heartbeat(held=False, cancelled=True)
    assert await store.heartbeat(Lease("one", "b", lease.token), LEASE_S) == Heartbeat(held=False)
    assert await store.claim("b", LEASE_S, 1) == []

    assert await store.unfinished(["one"]) == {"one"}
    await store.cleaned(Lease("one", "a", lease.token + 1))
    assert await store.unfinished(["one"]) == {"one"}
    await store.cleaned(lease)
    assert (await get_job(store, "one", JobState.CANCELLED)).owner is None
    assert await store.unfinished(["one"]) == set()


async def test_a_cancelled_job_with_an_expired_lease_is_not_waited_for(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store, lease_s=EXPIRED_S)).lease
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    assert await store.unfinished(["one"]) == set()
    assert (await store.heartbeat(lease, LEASE_S)).cancelled


async def test_cancelling_a_released_job(store: SqlJobStore) -> None:
    """Its runner may have left files, so the row keeps an owner for the sweeper, with an expired lease."""
    lease = (await started(store, "one")).lease
    await store.release(lease)
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    job = await get_job(store, "one", JobState.CANCELLED)
    assert job.owner not in (None, "a")
    assert not (await store.heartbeat(lease, LEASE_S)).cancelled
    assert await store.claim("b", LEASE_S, 1) == []
    assert await store.unfinished(["one"]) == set()


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_terminal_states_are_final(store: SqlJobStore, end: str) -> None:
    lease = (await started(store, "one")).lease
    assert await (store.complete(lease, {}) if end == "complete" else store.fail(lease, ERROR))
    job = await get_job(store, "one")
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    await assert_refused(store, lease)
    assert await get_job(store, "one") == job


async def test_unfinished_returns_queued_and_running_jobs(store: SqlJobStore) -> None:
    await finished(store, "done")
    await started(store, "running")
    await submit(store, "queued", "not-asked-for")
    many = [f"unknown-{i}" for i in range(1200)]
    assert await store.unfinished(["done", *many, "running", "queued"]) == {"running", "queued"}
    assert await store.unfinished([]) == set()
