"""Sends one webhook request and classifies its outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

import httpx

from serve_app.fetch.address_guard import (
    AddressRefused,
    HostNotFound,
    PortRefused,
    guarded_backend,
    guarded_client,
)
from serve_app.settings import AddressSettings

HEADERS = {"Content-Type": "application/json", "User-Agent": "birefnet-serve"}


class Verdict(Enum):
    DELIVERED = "delivered"
    RETRY = "retry"  # the next attempt may succeed
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of an attempt. `reason` is for people; it omits the receiver's URL, which may contain a secret."""

    verdict: Verdict
    reason: str


async def post(
    url: str, body: bytes, headers: dict[str, str], limit_s: float, addresses: AddressSettings
) -> AttemptResult:
    """POSTs `body` within `limit_s` seconds. Only the status of the reply is read."""
    client = guarded_client(guarded_backend(addresses), httpx.Timeout(limit_s), HEADERS | headers)
    try:
        async with (
            asyncio.timeout(limit_s),
            client,
            client.stream("POST", url, content=body) as response,
        ):
            return _result_of(response.status_code)
    except (TimeoutError, httpx.TimeoutException):
        return AttemptResult(Verdict.RETRY, f"the receiver did not answer within {limit_s:g} s")
    except AddressRefused:
        return AttemptResult(
            Verdict.GIVE_UP,
            "the receiver is not on the public internet, and this service sends webhooks only there",
        )
    except PortRefused as error:
        return AttemptResult(Verdict.GIVE_UP, f"this service sends no webhooks to port {error.port}")
    except HostNotFound:
        return AttemptResult(Verdict.RETRY, "the receiver's host name cannot be resolved")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
        return AttemptResult(Verdict.GIVE_UP, "the URL is not valid")
    except httpx.ConnectError as error:
        return AttemptResult(Verdict.RETRY, f"no connection to the receiver ({error})")
    except httpx.HTTPError as error:
        return AttemptResult(Verdict.RETRY, f"the connection failed before the receiver answered ({error})")


def _result_of(status: int) -> AttemptResult:
    reason = f"the receiver answered {status}"
    if 200 <= status < 300:
        return AttemptResult(Verdict.DELIVERED, reason)
    if 300 <= status < 400:
        return AttemptResult(Verdict.GIVE_UP, f"{reason}, and webhooks follow no redirects")
    return AttemptResult(Verdict.RETRY, reason)
