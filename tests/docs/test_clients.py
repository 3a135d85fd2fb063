"""The tables of clients are those that the clients' replies give."""

from __future__ import annotations

from tests.clients.versions.clients import CLIENTS, PROXIES
from tests.clients.versions.replies import PAGE, load, written


def test_the_tables_are_what_the_replies_give() -> None:
    text = PAGE.read_text()
    assert written(text, load()) == text, "run `make clients`"


def test_every_client_was_tried() -> None:
    """And each of its functions."""
    rows = load()
    assert list(rows) == [client.label for client in CLIENTS + PROXIES]
    for client in CLIENTS + PROXIES:
        assert set(rows[client.label].replies) == set(client.functions)
