"""Query parameters of the request history, and their translation to a page of the job table."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from serve_app.api.submission import account_of
from serve_app.errors import BadRequest
from serve_app.jobs.model import HistoryPage, Outcome

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
MAX_LIMIT_WITH_PAYLOADS = 100  # up to 64 KiB each

_CURSOR = re.compile(r"[0-9]{1,18}")
_ID = re.compile(r"[0-9A-Fa-f-]{36}")


def page_of(request: Request) -> HistoryPage:
    """Returns the page that the query asks for, with one job more. Raises `BadRequest` for invalid values."""
    query = request.query_params
    payloads = "payloads" in [name for names in query.getlist("expand") for name in names.split(",")]
    limit, cursor = query.get("limit", str(DEFAULT_LIMIT)), query.get("cursor")
    status, job_id = query.get("status"), query.get("request_id")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_LIMIT):
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}.")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise BadRequest("cursor must be the next_cursor of the previous page.")
    if status is not None and status not in set(Outcome):
        raise BadRequest(f"status must be one of {', '.join(Outcome)}.")
    if job_id is not None and not _ID.fullmatch(job_id):
        raise BadRequest("request_id must be the id of a request.")
    return HistoryPage(
        account=account_of(request),
        limit=min(int(limit), MAX_LIMIT_WITH_PAYLOADS if payloads else MAX_LIMIT) + 1,
        before=int(cursor) if cursor is not None else None,
        since=_time(query.get("start"), "start"),
        until=_time(query.get("end"), "end"),
        outcome=Outcome(status) if status is not None else None,
        job_id=job_id.lower() if job_id is not None else None,
        payloads=payloads,
    )


def _time(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{name} must be a time such as 2026-01-31T12:00:00Z.") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _filter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


FILTERS = [
    _filter(
        "limit",
        f"Items per page; at most {MAX_LIMIT_WITH_PAYLOADS} with payloads.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    _filter("cursor", "`next_cursor` of the page before.", {"type": "string", "pattern": "^[0-9]{1,18}$"}),
    _filter(
        "start",
        "Only those sent at this time or later: the `sent_at` of one includes it.",
        {"type": "string", "format": "date-time"},
    ),
    _filter(
        "end",
        "Only those sent before this time: the `sent_at` of one excludes it.",
        {"type": "string", "format": "date-time"},
    ),
    _filter(
        "status",
        "Only requests with this outcome; `user_error` is a status below 500.",
        {"type": "string", "enum": list(map(str, Outcome))},
    ),
    _filter("request_id", "Only this request.", {"type": "string", "format": "uuid"}),
    _filter("expand", "`payloads` includes input and output.", {"type": "string", "enum": ["payloads"]}),
]
