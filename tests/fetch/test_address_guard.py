"""The address guard, with redirects and DNS rebinding."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.fetch.address_guard import GuardedBackend
from serve_app.fetch.addresses import Address, is_public
from serve_app.fetch.fetch import fetch
from tests.fetch.loopback import BODY, LIMITS, complete, head, refused, server


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"]
)
async def test_private_hosts_are_refused(out: Path, host: str) -> None:
    async with server(complete) as base:
        url = f"http://{host}:{base.rpartition(':')[2]}/"
        message = await refused(url, out, LIMITS.model_copy(update={"allow_private": False}))
    assert "not on the public internet" in message or "cannot be resolved" in message


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::1", False),  # 6to4 of 10.0.0.1
        ("64:ff9b::7f00:1", False),  # NAT64 of 127.0.0.1
        ("168.63.129.16", False),  # Azure's agent
        ("192.0.0.192", False),  # Oracle's metadata service
        ("fec0::1", False),
        (
            "::808:808",
            False,
        ),  # compatible with IPv4, translated, 6to4, local NAT64, Teredo, ISATAP: of 8.8.8.8
        ("::ffff:0:808:808", False),
        ("2002:808:808::1", False),
        ("64:ff9b:1::808:808", False),
        ("2001:0:808:808::1", False),
        ("2600::5efe:808:808", False),
        ("2600::200:5efe:808:808", False),
        ("2600::1:5efe:808:808", True),  # any other interface
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),  # NAT64 of 8.8.8.8
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def only_one(address: Address) -> bool:
    """A stand-in for `is_public` without internet: allows 127.0.0.1, but not the rest of loopback."""
    return str(address) == "127.0.0.1"


async def test_a_redirect_to_a_private_host_is_refused(out: Path) -> None:
    reached: list[str] = []

    async def inner(path: str, writer: asyncio.StreamWriter) -> None:
        reached.append(path)

    async with server(inner, "127.0.0.2") as secret:

        async def answer(path: str, writer: asyncio.StreamWriter) -> None:
            writer.write(head("302 Found", f"Location: {secret}/secret", "Content-Length: 0"))

        async with server(answer) as base:
            message = await refused(base, out, backend=GuardedBackend(only_one))
    assert "not on the public internet" in message and reached == []


async def test_the_checked_address_is_the_one_connected_to(out: Path) -> None:
    """DNS rebinding: names are resolved once per connection, and refused if any of their addresses is private."""
    async with server(complete) as base:
        port = base.rpartition(":")[2]
        for script, works in (
            ([["127.0.0.1"], ["127.0.0.2"]], True),
            ([["127.0.0.2"]], False),
            ([["127.0.0.1", "127.0.0.2"]], False),
        ):
            answers = iter(script)

            async def resolver(host: str, port: int, answers: Iterator[list[str]] = answers) -> list[str]:
                assert host == "rebind.example"
                return next(answers)

            backend = GuardedBackend(only_one, resolver)
            url = f"http://rebind.example:{port}/"
            if works:
                assert await fetch(url, out, LIMITS, backend) == len(BODY)
                out.unlink()
            else:
                assert "not on the public internet" in await refused(url, out, backend=backend)


async def test_the_next_address_is_tried_if_one_is_unreachable(out: Path) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.3", "127.0.0.1"]

    async with server(complete) as base:
        backend = GuardedBackend(lambda address: True, resolver)
        url = f"http://two.example:{base.rpartition(':')[2]}/"
        assert await fetch(url, out, LIMITS, backend) == len(BODY)
