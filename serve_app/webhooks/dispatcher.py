"""Sends the webhooks of finished jobs, each at least once, across restarts and with any number of dispatchers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress

from serve_app.jobs.model import lease_owner
from serve_app.settings import WebhookSettings
from serve_app.webhooks.outbox import Delivery, DueDelivery, Outbox
from serve_app.webhooks.payload import PayloadBuilder
from serve_app.webhooks.signing_keys import KeyFile, signed_headers
from serve_app.webhooks.transport import AttemptResult, Verdict, post

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

STALE_S = 30.0  # without an iteration for this long, the loop counts as hung
LEASE_MARGIN_S = 30.0  # for the parts of an attempt other than the wait for the receiver


class Dispatcher:
    """Sends due webhooks in the running event loop, from its creation until `stop`.

    Raises `SetupError` if the signing keys cannot be read or written.
    """

    def __init__(
        self, settings: WebhookSettings, database_url: str, keys: KeyFile, payloads: PayloadBuilder
    ) -> None:
        self._settings = settings
        self._outbox = Outbox(
            database_url, settings.first_limit_s + LEASE_MARGIN_S, settings.retry_limit_s + LEASE_MARGIN_S
        )
        self._keys = keys
        self._payloads = payloads
        keys.ring()  # fails at start, not at the first webhook, if the service cannot sign
        self._owner = lease_owner()
        self._in_flight: dict[asyncio.Task[None], Delivery] = {}
        self._sending: set[asyncio.Task[AttemptResult]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._last_tick = time.monotonic()
        self._loop = asyncio.create_task(self._run())

    def check(self) -> None:
        """Raises `RuntimeError` if the loop has ended or hangs."""
        if self._loop.done():
            raise RuntimeError("the dispatcher's loop has ended")
        if time.monotonic() - self._last_tick > STALE_S:
            raise RuntimeError(f"the dispatcher's loop has made no progress for {STALE_S:g} s")

    async def stop(self) -> None:
        """Cancels the open attempts and releases their webhooks, so that another dispatcher can send them at once."""
        self._stopping = True
        self._wake.set()
        await asyncio.gather(self._loop, return_exceptions=True)
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._in_flight)
        await self._outbox.close()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                while await self._start_due():
                    pass
            except Exception:
                logger.exception("cannot read the due webhooks; trying again")
            self._last_tick = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.poll_s)
            self._wake.clear()

    async def _start_due(self) -> bool:
        """Starts attempts at due webhooks, within the limits. Returns whether any started: then more may be due."""
        self._last_tick = time.monotonic()
        if self._stopping or len(self._in_flight) >= self._settings.max_open:
            return False
        at = Counter(delivery.receiver for delivery in self._in_flight.values())
        busy = [receiver for receiver, n in at.items() if n >= self._settings.max_per_receiver]
        chosen = self._choose(await self._outbox.due(busy), at)
        if not chosen:
            return False
        claimed = await self._outbox.claim(self._owner, chosen)
        for delivery in claimed:
            attempt = asyncio.create_task(self._attempt(delivery))
            self._in_flight[attempt] = delivery
            attempt.add_done_callback(self._ended)
        return bool(claimed)

    def _choose(self, waiting: list[DueDelivery], at: Counter[str]) -> list[str]:
        """The first that fit the limits. The limit per receiver keeps a slow one from delaying the others."""
        chosen: list[str] = []
        for candidate in waiting:
            if len(self._in_flight) + len(chosen) >= self._settings.max_open:
                break
            if at[candidate.receiver] < self._settings.max_per_receiver:
                at[candidate.receiver] += 1
                chosen.append(candidate.job_id)
        return chosen

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        del self._in_flight[attempt]
        self._wake.set()

    async def _attempt(self, delivery: Delivery) -> None:
        # In a separate task, so that `stop` can cancel it but not the transaction that records its outcome.
        sending = asyncio.create_task(self._send(delivery))
        self._sending.add(sending)
        await asyncio.wait([sending])
        self._sending.discard(sending)
        try:
            if sending.cancelled():
                await self._outbox.release(delivery)
            else:
                await self._record(delivery, self._result_of(delivery, sending))
        except Exception:  # the attempt is repeated when the lease has expired
            logger.exception(
                "cannot record the outcome of an attempt at the webhook of job %s", delivery.job.id
            )

    def _result_of(self, delivery: Delivery, sent: asyncio.Task[AttemptResult]) -> AttemptResult:
        if error := sent.exception():
            logger.error("an attempt at the webhook of job %s failed", delivery.job.id, exc_info=error)
            return AttemptResult(Verdict.RETRY, "the message could not be built")
        return sent.result()

    async def _send(self, delivery: Delivery) -> AttemptResult:
        if delivery.expired and delivery.job.error is None:
            return AttemptResult(Verdict.GIVE_UP, "the result has expired")
        settings, job, ring = self._settings, delivery.job, self._keys.ring()
        body = await asyncio.to_thread(self._payloads.write, job, delivery.files_url)
        now = time.time()
        headers = signed_headers(ring.signer(now), job.id, job.account or ring.installation, int(now), body)
        limit_s = settings.first_limit_s if delivery.attempt == 1 else settings.retry_limit_s
        return await post(delivery.url, body, headers, limit_s, settings)

    async def _record(self, delivery: Delivery, result: AttemptResult) -> None:
        this = f"webhook attempt {delivery.attempt}: {result.reason}"
        if result.verdict is Verdict.DELIVERED:
            await self._outbox.finish(delivery, this)
        elif result.verdict is Verdict.GIVE_UP or delivery.attempt > self._settings.max_retries:
            await self._outbox.finish(delivery, f"{this}; no further attempts", result.reason)
        else:
            delay_s = delay(delivery.attempt, self._settings)
            await self._outbox.retry_later(
                delivery, delay_s, f"{this}; next attempt in {delay_s:g} s", result.reason
            )


def delay(attempt: int, settings: WebhookSettings) -> float:
    """Seconds between failed attempt number `attempt` (from 1) and the next."""
    doublings = min(attempt - 1, 64)
    return float(min(settings.first_delay_s * 2**doublings, settings.longest_delay_s))
