"""The job table: leases, fencing, cancellation and pieces, on both databases."""

from __future__ import annotations

import pytest

from serve_app.database.tables import jobs
from serve_app.jobs.model import CancelOutcome, Heartbeat, JobState, Lease, Progress
from serve_app.jobs.sql.store import SqlJobStore
from tests.jobs.steps import ERROR, LEASE_S, OVER_S, claim_one, finished, lines, look, started, stored, submit


async def assert_shut_out(store: SqlJobStore, stale: Lease) -> None:
    """No write under `stale` is taken, and none leaves a trace."""
    before = await store.get(stale.job_id), await store.events(stale.job_id), await store.pieces(stale.job_id)
    assert not (await store.heartbeat(stale, LEASE_S)).held
    assert not await store.report(stale, Progress("late"), ["late"])
    assert not await store.record_piece(stale, 0, {"late": True})
    assert not await store.complete(stale, {})
    assert not await store.fail(stale, ERROR)
    assert not await store.release(stale)
    after = await store.get(stale.job_id), await store.events(stale.job_id), await store.pieces(stale.job_id)
    assert after == before


async def test_an_expired_lease_is_claimed_again_and_the_first_holder_is_shut_out(store: SqlJobStore) -> None:
    await submit(store, "one", "two")
    lost = (await claim_one(store, "a", OVER_S)).lease
    taken = await claim_one(store, "b")
    assert taken.job.id == "one" and taken.job.state is JobState.RUNNING
    assert taken.lease.token == lost.token + 1 and taken.job.attempts == 2
    assert await store.record_piece(taken.lease, 0, {"name": "mine"})
    for stale in (lost, Lease("one", "b", lost.token), Lease("one", "a", taken.lease.token)):
        await assert_shut_out(store, stale)
        assert not (await store.heartbeat(stale, LEASE_S)).cancelled
        await store.cleaned(stale)
    assert (await store.heartbeat(taken.lease, LEASE_S)).held
    assert await store.complete(taken.lease, {})
    await assert_shut_out(store, taken.lease)


async def test_an_expired_lease_that_nobody_took_is_still_held(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store, "a", OVER_S)).lease
    (before,) = await stored(store, jobs)
    beat = await store.heartbeat(lease, LEASE_S)
    assert beat.held and not beat.cancelled
    (after,) = await stored(store, jobs)
    assert after["expires_at"] > before["expires_at"] + LEASE_S
    assert await store.claim("b", LEASE_S, 1) == []


async def test_release_puts_a_job_back_in_its_place(store: SqlJobStore) -> None:
    await submit(store, "one", "two")
    first = await claim_one(store)
    assert await store.release(first.lease)
    job = await look(store, "one", JobState.QUEUED)
    assert job.owner is None and await store.position(job) == 0
    await assert_shut_out(store, first.lease)
    again = await claim_one(store, "b")
    assert again.job.id == "one" and again.lease.token == 2 and again.job.started_at == first.job.started_at
    assert again.input == first.input
    assert again.job.attempts == 1  # a release loses no runner


async def test_pieces_are_kept_for_whoever_takes_over(store: SqlJobStore) -> None:
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


async def test_cancel_before_any_runner_ends_the_job(store: SqlJobStore) -> None:
    await submit(store, "one")
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    job = await look(store, "one", JobState.CANCELLED)
    assert job.finished_at is not None and job.owner is None
    assert job.error is not None and job.error.status == 499
    assert job.error.body == {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert await store.unfinished(["one"]) == set()
    assert await store.claim("a", LEASE_S, 1) == []
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    assert await lines(store, "one") == [("INFO", "queued"), ("INFO", "cancelled")]


async def test_cancel_of_a_running_job_is_final_at_once_and_its_holder_hears_of_it(
    store: SqlJobStore,
) -> None:
    lease = (await started(store, "one")).lease
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    assert (await look(store, "one", JobState.CANCELLED)).owner == "a"
    await assert_shut_out(store, lease)
    assert await store.heartbeat(lease, LEASE_S) == Heartbeat(held=False, cancelled=True)
    assert await store.heartbeat(Lease("one", "b", lease.token), LEASE_S) == Heartbeat(held=False)
    assert await store.claim("b", LEASE_S, 1) == []

    assert await store.unfinished(["one"]) == {"one"}
    await store.cleaned(Lease("one", "a", lease.token + 1))
    assert await store.unfinished(["one"]) == {"one"}
    await store.cleaned(lease)
    assert (await look(store, "one", JobState.CANCELLED)).owner is None
    assert await store.unfinished(["one"]) == set()


async def test_nobody_waits_for_a_holder_whose_lease_ran_out(store: SqlJobStore) -> None:
    await submit(store, "one")
    lease = (await claim_one(store, lease_s=OVER_S)).lease
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    assert await store.unfinished(["one"]) == set()
    assert (await store.heartbeat(lease, LEASE_S)).cancelled


async def test_cancel_of_a_job_that_was_given_back(store: SqlJobStore) -> None:
    """Its first runner may have left files behind, so the row says that somebody had it; nobody is waited for."""
    lease = (await started(store, "one")).lease
    await store.release(lease)
    assert await store.request_cancel("one") is CancelOutcome.CANCELLED
    job = await look(store, "one", JobState.CANCELLED)
    assert job.owner not in (None, "a")
    assert not (await store.heartbeat(lease, LEASE_S)).cancelled
    assert await store.claim("b", LEASE_S, 1) == []
    assert await store.unfinished(["one"]) == set()


@pytest.mark.parametrize("end", ["complete", "fail"])
async def test_an_end_is_final(store: SqlJobStore, end: str) -> None:
    lease = (await started(store, "one")).lease
    assert await (store.complete(lease, {}) if end == "complete" else store.fail(lease, ERROR))
    job = await look(store, "one")
    assert await store.request_cancel("one") is CancelOutcome.ALREADY_TERMINAL
    await assert_shut_out(store, lease)
    assert await look(store, "one") == job


async def test_unfinished_names_jobs_that_are_not_over(store: SqlJobStore) -> None:
    await finished(store, "done")
    await started(store, "running")
    await submit(store, "queued", "not-asked-for")
    many = [f"unknown-{i}" for i in range(1200)]
    assert await store.unfinished(["done", *many, "running", "queued"]) == {"running", "queued"}
    assert await store.unfinished([]) == set()
