"""What the headers and the query of a run or submit say, and the job that it becomes."""

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
from serve_app.jobs.store import JobStore
from serve_app.parsing import storable

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

SHORTEST_TIMEOUT_S = 0.1
LONGEST_KEY = 255
LONGEST_HINT = 255
LONGEST_URL = 2048
UNSAID = -1.0  # no lifetime that anybody could ask for
TRUE = ("1", "true", "yes")


def account_of(request: Request) -> str | None:
    """Who asks; None where nobody has to say."""
    account: str | None = request.scope["state"].get("account")
    return account


@dataclass(frozen=True, slots=True)
class Submission:
    """How a job is to be treated; what it is to do is in the body.

    keep: False when no JSON of it is to be kept (`X-Fal-Store-IO: 0`).
    most_waiting: refuse the job when more than so many wait (`fal_max_queue_length`).
    """

    account: str | None = None
    priority: Priority = Priority.NORMAL
    start_timeout_s: float | None = None
    hint: str | None = None
    keep: bool = True
    retry: bool = True
    lifetime_s: float | None = None
    key: str | None = None
    most_waiting: int | None = None
    webhook: str | None = None
    files_url: str | None = None

    @classmethod
    def of(cls, request: Request, files_url: str) -> Self:
        """Raises `BadRequest` for what cannot be meant; what the vendor ignores is ignored.

        `files_url`: the file server as this client sees it, kept for a webhook, which comes without being asked.
        """
        headers, query = request.headers, request.query_params
        low = headers.get("x-fal-queue-priority", "").strip().lower() == "low"
        return cls(
            account=account_of(request),
            priority=Priority.LOW if low else Priority.NORMAL,
            start_timeout_s=_timeout(headers.get("x-fal-request-timeout")),
            hint=headers.get("x-fal-runner-hint", "")[:LONGEST_HINT] or None,
            keep=headers.get("x-fal-store-io", "").strip() != "0",
            retry=headers.get("x-fal-no-retry", "").strip().lower() not in TRUE,
            lifetime_s=_lifetime(headers),
            key=_key(headers.get("idempotency-key")),
            most_waiting=_most_waiting(query.get("fal_max_queue_length")),
            webhook=_webhook(query.get("fal_webhook")),
            files_url=files_url,
        )

    def job(self, job_id: str, sent: Json, video: VideoInput) -> NewJob:
        """A job for a valid input; `sent` is the object that the client has sent."""
        request = video.to_request().as_json()
        return self._new(job_id, request, None if video.sync_mode else sent, request)

    def refused(self, job_id: str, sent: Json | None, body: bytes, error: WireError) -> NewJob:
        """A job that is over before it starts: its result is why `body` is no valid input."""
        unkept = sent is None or sent.get("sync_mode") is True
        return self._new(job_id, {}, None if unkept else sent, body if sent is None else sent, error)

    def _new(
        self,
        job_id: str,
        request: Json,
        sent: Json | None,
        meant: Json | bytes,
        error: WireError | None = None,
    ) -> NewJob:
        return NewJob(
            id=job_id,
            input=request,
            payload=storable(sent) if self.keep and sent is not None else None,
            priority=self.priority,
            account=self.account,
            idempotency_key=self.key,
            fingerprint=_fingerprint(meant) if self.key else None,
            start_timeout_s=self.start_timeout_s,
            hint=self.hint,
            retry=self.retry,
            keep_result=self.keep,
            lifetime_s=self.lifetime_s,
            webhook=self.webhook,
            files_url=self.files_url if self.webhook else None,
            error=error,
        )

    async def known(self, store: JobStore) -> Job | None:
        """The job that the key of this submission stands for already."""
        return await store.keyed(self.account, self.key) if self.key else None

    async def admit(self, store: JobStore) -> None:
        """Raise `TooManyWaiting` when the client does not want to queue behind so many; what is known already does not
        queue anew.
        """
        if self.most_waiting is None or await self.known(store) is not None:
            return
        if (waiting := await store.waiting()) > self.most_waiting:
            raise TooManyWaiting(
                f"{waiting} requests are waiting, more than fal_max_queue_length={self.most_waiting}. "
                "Try again later."
            )


async def enter(store: JobStore, new: NewJob) -> Job:
    """Insert a job, or find the one that the same key stands for; `KeyReused` when that one does something else."""
    job = await store.insert(new)
    if job.id != new.id and job.fingerprint != new.fingerprint:
        raise KeyReused("This Idempotency-Key was used with another input. Use a new key for a new request.")
    return job


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > SHORTEST_TIMEOUT_S):
        raise BadRequest(f"X-Fal-Request-Timeout must be a number of seconds above {SHORTEST_TIMEOUT_S:g}.")
    return seconds


def _key(text: str | None) -> str | None:
    if text and len(text) > LONGEST_KEY:
        raise BadRequest(f"Idempotency-Key must have at most {LONGEST_KEY} characters.")
    return text or None


def _most_waiting(text: str | None) -> int | None:
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
    if not usable or len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise BadRequest(f"fal_webhook must be an http or https URL of at most {LONGEST_URL} characters.")
    return url


def _lifetime(headers: Mapping[str, str]) -> float | None:
    """Seconds that files live; infinity when the client wants them kept, None when it does not say."""
    asked = lifetime_in(headers, UNSAID)
    if asked == UNSAID:
        return None
    return math.inf if asked is None else asked


def _fingerprint(meant: Json | bytes) -> str:
    """The digest of an input, the same for the same JSON in another order or layout."""
    if not isinstance(meant, bytes):
        meant = json.dumps(meant, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(meant).hexdigest()


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


PARAMETERS = [
    _header(
        "X-Fal-Request-Timeout",
        "Seconds within which the work must have started.",
        {"type": "number", "exclusiveMinimum": SHORTEST_TIMEOUT_S},
    ),
    _header(
        "X-Fal-Queue-Priority", "`low` goes behind all others.", {"type": "string", "enum": ["normal", "low"]}
    ),
    _header("X-Fal-Runner-Hint", "Requests with the same hint like the same replica.", {"type": "string"}),
    _header("X-Fal-Store-IO", "`0` keeps no JSON of the request.", {"type": "string"}),
    _header("X-Fal-No-Retry", "`1`: do not try again when a worker is lost.", {"type": "string"}),
    _header(
        "X-Fal-Object-Lifecycle-Preference",
        'How long the files live, as JSON: {"expiration_duration_seconds": 3600}; null keeps them.',
        {"type": "string"},
    ),
    _header(
        "Idempotency-Key",
        "Requests with the same key are one request: the later ones get the job of the first.",
        {"type": "string", "maxLength": LONGEST_KEY},
    ),
    _query("fal_max_queue_length", "Refuse when more requests wait.", {"type": "integer", "minimum": 0}),
    _query(
        "fal_webhook",
        "URL to tell of the end.",
        {"type": "string", "format": "uri", "maxLength": LONGEST_URL},
    ),
]
