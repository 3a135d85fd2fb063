"""Sends the webhooks of jobs that are over: at least once each, across restarts, by any number of dispatchers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress

from serve_app.jobs.model import lease_owner
from serve_app.settings import WebhookSettings
from serve_app.webhooks.outbox import Delivery, Outbox, Waiting
from serve_app.webhooks.payload import PayloadBuilder
from serve_app.webhooks.signing_keys import KeyFile, signed_headers
from serve_app.webhooks.transport import Answer, Verdict, post

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

STALE_S = 30.0  # a loop that has not turned for so long is dead
LEASE_MARGIN_S = 30.0  # for all of an attempt that is not the receiver's


class Dispatcher:
    """Works from its creation on, in the running event loop, until `stop`."""

    def __init__(
        self, settings: WebhookSettings, database_url: str, keys: KeyFile, payloads: PayloadBuilder
    ) -> None:
        self._settings = settings
        self._outbox = Outbox(
            database_url, settings.first_limit_s + LEASE_MARGIN_S, settings.retry_limit_s + LEASE_MARGIN_S
        )
        self._keys = keys
        self._payloads = payloads
        keys.ring()  # a service that cannot sign does not start
        self._owner = lease_owner()
        self._open: dict[asyncio.Task[None], Delivery] = {}
        self._sending: set[asyncio.Task[Answer]] = set()
        self._woken = asyncio.Event()
        self._stopping = False
        self._turned = time.monotonic()
        self._loop = asyncio.create_task(self._turn())

    def check(self) -> None:
        """Raise RuntimeError when the loop has died or hangs."""
        if self._loop.done():
            raise RuntimeError("the dispatcher's loop has ended")
        if time.monotonic() - self._turned > STALE_S:
            raise RuntimeError(f"the dispatcher's loop has not turned for {STALE_S:g} s")

    async def stop(self) -> None:
        """Break off what is under way and give it back, for another dispatcher to make the attempt again at once."""
        self._stopping = True
        self._woken.set()
        await asyncio.gather(self._loop, return_exceptions=True)
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._open)
        await self._outbox.close()

    async def _turn(self) -> None:
        while not self._stopping:
            try:
                while await self._take():
                    pass
            except Exception:
                logger.exception("the webhooks to be sent cannot be read; trying again")
            self._turned = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._settings.poll_s)
            self._woken.clear()

    async def _take(self) -> bool:
        """Begin what is due and has a place; whether something began, so that there may be more."""
        self._turned = time.monotonic()
        if self._stopping or len(self._open) >= self._settings.max_open:
            return False
        at = Counter(delivery.receiver for delivery in self._open.values())
        busy = [receiver for receiver, n in at.items() if n >= self._settings.max_per_receiver]
        chosen = self._choose(await self._outbox.due(busy), at)
        if not chosen:
            return False
        taken = await self._outbox.claim(self._owner, chosen)
        for delivery in taken:
            attempt = asyncio.create_task(self._attempt(delivery))
            self._open[attempt] = delivery
            attempt.add_done_callback(self._ended)
        return bool(taken)

    def _choose(self, waiting: list[Waiting], at: Counter[str]) -> list[str]:
        """The first that find a place: a slow receiver uses up its own places and holds back nobody else."""
        chosen: list[str] = []
        for candidate in waiting:
            if len(self._open) + len(chosen) >= self._settings.max_open:
                break
            if at[candidate.receiver] < self._settings.max_per_receiver:
                at[candidate.receiver] += 1
                chosen.append(candidate.job_id)
        return chosen

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        del self._open[attempt]
        self._woken.set()

    async def _attempt(self, delivery: Delivery) -> None:
        # A task of its own can be broken off without touching the transaction that records its end.
        sending = asyncio.create_task(self._send(delivery))
        self._sending.add(sending)
        await asyncio.wait([sending])
        self._sending.discard(sending)
        try:
            if sending.cancelled():
                await self._outbox.give_back(delivery)
            else:
                await self._record(delivery, self._answer(delivery, sending))
        except Exception:  # when the lease has run out, the attempt is made again
            logger.exception(
                "the end of an attempt at the webhook of job %s is not recorded", delivery.job.id
            )

    def _answer(self, delivery: Delivery, sent: asyncio.Task[Answer]) -> Answer:
        if error := sent.exception():
            logger.error("an attempt at the webhook of job %s failed", delivery.job.id, exc_info=error)
            return Answer(Verdict.AGAIN, "the message could not be made")
        return sent.result()

    async def _send(self, delivery: Delivery) -> Answer:
        if delivery.expired and delivery.job.error is None:
            return Answer(Verdict.NEVER, "the result has expired")
        settings, job, ring = self._settings, delivery.job, self._keys.ring()
        body = await asyncio.to_thread(self._payloads.write, job, delivery.files_url)
        now = time.time()
        headers = signed_headers(ring.signer(now), job.id, job.account or ring.installation, int(now), body)
        limit_s = settings.first_limit_s if delivery.attempt == 1 else settings.retry_limit_s
        return await post(delivery.url, body, headers, limit_s, settings.allow_private)

    async def _record(self, delivery: Delivery, answer: Answer) -> None:
        this = f"webhook attempt {delivery.attempt}: {answer.reason}"
        if answer.verdict is Verdict.DELIVERED:
            await self._outbox.finish(delivery, this)
        elif answer.verdict is Verdict.NEVER or delivery.attempt > self._settings.max_retries:
            await self._outbox.finish(delivery, f"{this}; there will be no other", answer.reason)
        else:
            delay_s = delay(delivery.attempt, self._settings)
            await self._outbox.again(delivery, delay_s, f"{this}; the next in {delay_s:g} s", answer.reason)


def delay(attempt: int, settings: WebhookSettings) -> float:
    """Seconds from a failed attempt, counted from 1, to the next."""
    doublings = min(attempt - 1, 64)
    return float(min(settings.first_delay_s * 2**doublings, settings.longest_delay_s))
