"""Quotas of one replica: what one account uses up is left to the others, and what has ended is given back."""

from __future__ import annotations

import pytest

from serve_app.accounts.quotas import MAX_ACCOUNTS, Quotas
from serve_app.errors import QuotaExceeded, to_wire
from serve_app.settings import Quota, QuotaSettings
from tests.accounts.test_keys import Clock


def test_the_rate_of_one_account_is_not_that_of_another() -> None:
    clock = Clock()
    quotas = Quotas(QuotaSettings(account=Quota(requests_per_s=2, burst=3)), clock)
    for _ in range(3):
        quotas.count_request("alice")
    for _ in range(5):
        with pytest.raises(QuotaExceeded, match="This account may send 2 requests per second") as refused:
            quotas.count_request("alice")
    wire = to_wire(refused.value)
    assert (wire.status, wire.body["type"]) == (429, "concurrent_requests_limit")
    assert wire.headers["X-Fal-Needs-Retry"] == "1"
    quotas.count_request("bob")
    quotas.count_request(None)
    clock.now = 0.5
    quotas.count_request("alice")
    with pytest.raises(QuotaExceeded):
        quotas.count_request("alice")


def test_the_rate_of_all_and_a_refused_request_takes_nothing_of_it() -> None:
    settings = QuotaSettings(
        account=Quota(requests_per_s=1, burst=1), overall=Quota(requests_per_s=1, burst=3)
    )
    quotas = Quotas(settings, Clock())
    quotas.count_request("alice")
    for _ in range(10):
        with pytest.raises(QuotaExceeded, match="This account"):
            quotas.count_request("alice")
    quotas.count_request("bob")
    quotas.count_request("carol")
    with pytest.raises(QuotaExceeded, match="All clients together"):
        quotas.count_request("dave")


def test_streams_are_counted_until_they_end() -> None:
    quotas = Quotas(QuotaSettings(account=Quota(streams=1), overall=Quota(streams=2)))
    with quotas.stream("alice"):
        with pytest.raises(QuotaExceeded, match="this account"), quotas.stream("alice"):
            pass
        with quotas.stream("bob"), pytest.raises(QuotaExceeded, match="all clients"), quotas.stream("carol"):
            pass
    with quotas.stream("alice"):
        pass


def test_bodies_hold_bytes_until_they_are_released() -> None:
    quotas = Quotas(QuotaSettings(account=Quota(body_bytes=100), overall=Quota(body_bytes=150)))
    with quotas.body("alice") as first, quotas.body("alice") as second, quotas.body("bob") as third:
        first.grow_to(60)
        first.grow_to(60)
        with pytest.raises(QuotaExceeded, match="this account"):
            second.grow_to(41)
        second.grow_to(40)
        third.grow_to(50)
        with pytest.raises(QuotaExceeded, match="all clients"):
            third.grow_to(51)
    with quotas.body("alice") as again:
        again.grow_to(100)


def test_accounts_without_traffic_are_forgotten_but_not_what_they_hold() -> None:
    quotas = Quotas(QuotaSettings(account=Quota(streams=1)))
    with quotas.stream("holder"):
        for number in range(MAX_ACCOUNTS + 50):
            quotas.count_request(str(number))
        with pytest.raises(QuotaExceeded), quotas.stream("holder"):
            pass
    assert len(quotas._accounts) <= MAX_ACCOUNTS + 2
