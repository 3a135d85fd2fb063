"""Headers and query of a run or submit, and the job that it becomes."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from starlette.requests import Request

from serve_app.api.schema import VideoInput
from serve_app.errors import BadRequest, KeyReused, TooManyWaiting, WireError
from serve_app.files.upload_names import lifetime_in
from serve_app.jobs.model import Job, Json, NewJob, Priority
from serve_app.jobs.store import JobRequests
from serve_app.parsing import storable
from serve_app.settings import QuotaSettings

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

MIN_TIMEOUT_S = 0.1
MAX_KEY_CHARS = 255
MAX_URL_CHARS = 2048
UNSPECIFIED = -1.0  # never a valid lifetime
TRUE = ("1", "true", "yes")


def account_of(request: Request) -> str | None:
    """The account of the API key, or None if keys are not required."""
    account: str | None = request.scope["state"].get("account")
    return account


@dataclass(frozen=True, slots=True)
class Submission:
    """The options of a job; its input is in the body.

    keep: False if its JSON must not be kept (`X-Fal-Store-IO: 0`).
    max_queue_length: refuse the job if more jobs are waiting (`fal_max_queue_length`).
    """

    account: str | None = None
    priority: Priority = Priority.NORMAL
    start_timeout_s: float | None = None
    keep: bool = True
    retry: bool = True
    lifetime_s: float | None = None
    key: str | None = None
    max_queue_length: int | None = None
    webhook: str | None = None
    files_url: str | None = None

    @classmethod
    def of(cls, request: Request, files_url: str) -> Self:
        """Reads headers and query. Raises `BadRequest` for invalid values, but ignores those that the vendor ignores.

        files_url: the file server as this client reaches it, kept for the URLs in a webhook.
        """
        headers, query = request.headers, request.query_params
        low = headers.get("x-fal-queue-priority", "").strip().lower() == "low"
        return cls(
            account=account_of(request),
            priority=Priority.LOW if low else Priority.NORMAL,
            start_timeout_s=_timeout(headers.get("x-fal-request-timeout")),
            keep=headers.get("x-fal-store-io", "").strip() != "0",
            retry=headers.get("x-fal-no-retry", "").strip().lower() not in TRUE,
            lifetime_s=_lifetime(headers),
            key=_key(headers.get("idempotency-key")),
            max_queue_length=_max_queue_length(query.get("fal_max_queue_length")),
            webhook=_webhook(query.get("fal_webhook")),
            files_url=files_url,
        )

    def job(self, job_id: str, sent: Json, video: VideoInput) -> NewJob:
        """Returns a job for a valid input. `sent` is the client's JSON object."""
        request = video.to_request().as_json()
        return self._new(job_id, request, None if video.sync_mode else sent, request)

    def refused(self, job_id: str, sent: Json | None, body: bytes, error: WireError) -> NewJob:
        """Returns a job that has already failed with `error`, because `body` is invalid."""
        discard = sent is None or sent.get("sync_mode") is True
        return self._new(job_id, {}, None if discard else sent, body if sent is None else sent, error)

    def _new(
        self,
        job_id: str,
        request: Json,
        sent: Json | None,
        content: Json | bytes,
        error: WireError | None = None,
    ) -> NewJob:
        return NewJob(
            id=job_id,
            input=request,
            payload=storable(sent) if self.keep and sent is not None else None,
            priority=self.priority,
            account=self.account,
            idempotency_key=self.key,
            fingerprint=_fingerprint(content) if self.key else None,
            start_timeout_s=self.start_timeout_s,
            retry=self.retry,
            keep_result=self.keep,
            lifetime_s=self.lifetime_s,
            webhook=self.webhook,
            files_url=self.files_url if self.webhook else None,
            error=error,
        )

    async def existing(self, store: JobRequests) -> Job | None:
        """Returns the existing job with the idempotency key of this submission, if any."""
        return await store.by_idempotency_key(self.account, self.key) if self.key else None

    async def admit(self, store: JobRequests) -> None:
        """Raises `TooManyWaiting` if the queue is longer than the client accepts.

        A request whose idempotency key has a job already passes: it is not queued again.
        """
        if self.max_queue_length is None or await self.existing(store) is not None:
            return
        if (waiting := await store.waiting()) > self.max_queue_length:
            raise TooManyWaiting(
                f"{waiting} requests are waiting, more than fal_max_queue_length={self.max_queue_length}. "
                "Try again later."
            )


async def insert_or_find(store: JobRequests, new: NewJob, quotas: QuotaSettings) -> Job:
    """Inserts a job, or returns the one with the same idempotency key.

    Raises `KeyReused` if its input differs, and `QuotaExceeded` if the account or all have too many jobs.
    """
    job = await store.insert(new, quotas)
    if job.id != new.id and job.fingerprint != new.fingerprint:
        raise KeyReused(
            "This Idempotency-Key was used with a different input. Use a new key for a new request."
        )
    return job


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > MIN_TIMEOUT_S):
        raise BadRequest(f"X-Fal-Request-Timeout must be a number of seconds above {MIN_TIMEOUT_S:g}.")
    return seconds


def _key(text: str | None) -> str | None:
    if text and len(text) > MAX_KEY_CHARS:
        raise BadRequest(f"Idempotency-Key must have at most {MAX_KEY_CHARS} characters.")
    return text or None


def _max_queue_length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("fal_max_queue_length must be a whole number of waiting requests, 0 or more.")
    return int(text)


def _webhook(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
        raise BadRequest(f"fal_webhook must be an http or https URL of at most {MAX_URL_CHARS} characters.")
    return url


def _lifetime(headers: Mapping[str, str]) -> float | None:
    """Lifetime of the files in seconds; infinity if they are to be kept, None if not specified."""
    lifetime = lifetime_in(headers, UNSPECIFIED)
    if lifetime == UNSPECIFIED:
        return None
    return math.inf if lifetime is None else lifetime


def _fingerprint(content: Json | bytes) -> str:
    """SHA-256 of an input; JSON objects that differ only in order or whitespace have the same one."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


PARAMETERS = [
    _header(
        "X-Fal-Request-Timeout",
        "Seconds within which processing must start.",
        {"type": "number", "exclusiveMinimum": MIN_TIMEOUT_S},
    ),
    _header(
        "X-Fal-Queue-Priority",
        "`low` queues behind all others.",
        {"type": "string", "enum": ["normal", "low"]},
    ),
    _header(
        "X-Fal-Runner-Hint", "Accepted without effect: all runners serve all requests.", {"type": "string"}
    ),
    _header("X-Fal-Store-IO", "`0`: do not keep the request's JSON.", {"type": "string"}),
    _header("X-Fal-No-Retry", "`1`: do not retry after the loss of a worker.", {"type": "string"}),
    _header(
        "X-Fal-Object-Lifecycle-Preference",
        'Lifetime of the files, as JSON: {"expiration_duration_seconds": 3600}; null keeps them.',
        {"type": "string"},
    ),
    _header(
        "Idempotency-Key",
        "Requests with the same key share one job, that of the first.",
        {"type": "string", "maxLength": MAX_KEY_CHARS},
    ),
    _query(
        "fal_max_queue_length", "Refuse the request if more are waiting.", {"type": "integer", "minimum": 0}
    ),
    _query(
        "fal_webhook",
        "URL to notify when the request ends.",
        {"type": "string", "format": "uri", "maxLength": MAX_URL_CHARS},
    ),
]
