"""One attempt to hand a webhook over, and what its end means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

import httpx

from serve_app.fetch.address_guard import AddressRefused, HostNotFound, guarded_backend, guarded_client

HEADERS = {"Content-Type": "application/json", "User-Agent": "birefnet-serve"}


class Verdict(Enum):
    DELIVERED = "delivered"
    AGAIN = "again"  # the next attempt may succeed
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an attempt; `reason` is for people, without the receiver's address, which may hold a secret."""

    verdict: Verdict
    reason: str


async def post(url: str, body: bytes, headers: dict[str, str], limit_s: float, allow_private: bool) -> Answer:
    """POST `body` within `limit_s`. The receiver's status is its whole answer: nothing else of it is read."""
    client = guarded_client(guarded_backend(allow_private), httpx.Timeout(limit_s), HEADERS | headers)
    try:
        async with (
            asyncio.timeout(limit_s),
            client,
            client.stream("POST", url, content=body) as response,
        ):
            return _judged(response.status_code)
    except (TimeoutError, httpx.TimeoutException):
        return Answer(Verdict.AGAIN, f"the receiver did not answer within {limit_s:g} s")
    except AddressRefused:
        return Answer(
            Verdict.NEVER,
            "the receiver is not on the public internet, and this service sends webhooks nowhere else",
        )
    except HostNotFound:
        return Answer(Verdict.AGAIN, "the receiver's host name cannot be resolved")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
        return Answer(Verdict.NEVER, "the URL is not valid")
    except httpx.ConnectError as error:
        return Answer(Verdict.AGAIN, f"no connection to the receiver ({error})")
    except httpx.HTTPError as error:
        return Answer(Verdict.AGAIN, f"the connection broke off before the receiver answered ({error})")


def _judged(status: int) -> Answer:
    reason = f"the receiver answered {status}"
    if 200 <= status < 300:
        return Answer(Verdict.DELIVERED, reason)
    if 300 <= status < 400:
        return Answer(Verdict.NEVER, f"{reason}, and webhooks follow no redirects")
    return Answer(Verdict.AGAIN, reason)
