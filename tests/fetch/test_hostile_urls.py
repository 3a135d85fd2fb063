"""URLs that lead to where a stranger must not reach: none gets there, directly or by a redirect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from serve_app.fetch.fetch import fetch
from serve_app.settings import FetchSettings
from tests.fetch.loopback import LIMITS, head, refused, server

# Hosts at which a listener on loopback could be reached.
LOOPBACK = """
127.0.0.1 127.0.0.2 127.1 127.0.1 127.000.000.001 2130706433 0x7f000001 0x7F000001 0x7f.0.0.1 0x7f.1 017700000001
0177.0.0.1 0177.0.0.01 127.0.0.0x1 0.0.0.0 0 00.00.00.00 0x0 localhost LOCALHOST LocalHost localhost. ip6-localhost
127。0。0。1 １２７.０.０.１ ①②⑦.⓪.⓪.① ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
8.8.8.8@127.0.0.1 user:password@127.0.0.1 127.0.0.1:80@127.0.0.1 %31%32%37.0.0.1 127.0.0.1%00 127.0.0.1.
[::1] [0:0:0:0:0:0:0:1] [0000::0001] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:0001]
[::127.0.0.1] [::7f00:1] [::ffff:0:127.0.0.1] [::ffff:0:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
[64:ff9b:1::127.0.0.1] [2002:7f00:1::] [2002:7f00:0001::1] [2001:0:4136:e378:8000:63bf:80ff:fffe]
[::1%25lo] [::ffff:0.0.0.0]
""".split()  # noqa: SIM905 (a table)
# Networks of the operator, metadata services, and what is no address of a host.
ELSEWHERE = """
10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 192.168.255.255 100.64.0.1 100.127.255.255 167772161
0xa000001 0300.0250.0.1 192.168.257 169.254.169.254 169.254.0.1 2852039166 0xA9FEA9FE 0251.0376.0251.0376 168.63.129.16
0xa83f8110 100.100.100.200 192.0.0.192 192.0.0.8 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255
198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 0.1.2.3 172.20.10.1 0x7f.0x0.0x0.0x1
[fe80::1] [fe80::a9fe:a9fe] [febf::1] [fec0::1] [feff::1] [fc00::1] [fd00::1] [fd00:ec2::254] [fd20:ce::254] [ff02::1]
[ff0e::1] [100::1] [2001::1] [2001:2::1] [2001:10::1] [2001:20::1] [2001:db8::1] [3fff::1] [4000::1] [5f00::1] [8000::1]
[fd12:3456:789a:1::1] [2001:db8:ffff::1] [::ffff:192.168.0.1]
[::10.0.0.1] [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::ffff:168.63.129.16] [64:ff9b::10.0.0.1]
[64:ff9b::169.254.169.254] [64:ff9b::192.0.0.192] [64:ff9b:1::8.8.8.8] [64:ff9b:1:ffff::8.8.8.8] [2002:a00:1::1]
[2002:c0a8:1::1] [2002:a9fe:a9fe::1] [2600::5efe:10.0.0.1] [2600::200:5efe:10.0.0.1]
[fe80::5efe:192.168.0.1] [fe80::1%25lo]
""".split()  # noqa: SIM905 (a table)
SCHEMES = """
file:///etc/passwd file://127.0.0.1/etc/passwd FILE:/etc/passwd ftp://127.0.0.1:{port}/ gopher://127.0.0.1:{port}/_GET
dict://127.0.0.1:{port}/ ldap://127.0.0.1:{port}/ tftp://127.0.0.1:{port}/ sftp://127.0.0.1:{port}/
ws://127.0.0.1:{port}/ unix:///var/run/docker.sock http+unix://%2Fvar%2Frun%2Fdocker.sock/ rtmp://127.0.0.1:{port}/ rtsp://127.0.0.1:{port}/
rtp://127.0.0.1:{port} udp://127.0.0.1:{port} tcp://127.0.0.1:{port} hls+http://127.0.0.1:{port}/ concat:/etc/passwd
crypto:/etc/passwd subfile:/etc/passwd pipe:0 fd:0 cache:http://127.0.0.1:{port}/ async:http://127.0.0.1:{port}/
jar:http://127.0.0.1:{port}/!/ view-source:http://127.0.0.1:{port}/ javascript:1 s3://127.0.0.1:{port}/b about:blank
blob:http://127.0.0.1:{port}/ http:///127.0.0.1:{port}/ http://:{port}/ http://[::1 http://127.0.0.1:{port}x/
""".split()  # noqa: SIM905 (a table)
URLS = [f"http://{host}:{{port}}/" for host in LOOPBACK + ELSEWHERE] + ["https://127.0.0.1:{port}/", *SCHEMES]

PUBLIC_ONLY = LIMITS.model_copy(update={"allow_private": False})
REDIRECTING = "127.0.0.5"
Canary = tuple[int, list[str]]  # the port, and the hosts on which somebody came


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Listeners on several addresses of loopback at one port."""
    came: list[str] = []

    def at(host: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(host)
            writer.close()

        return connected

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(await asyncio.start_server(at("127.0.0.1"), "127.0.0.1", 0))
        port = first.sockets[0].getsockname()[1]
        for host in ("127.0.0.2", "::1"):
            await stack.enter_async_context(await asyncio.start_server(at(host), host, port))
        yield port, came


@asynccontextmanager
async def redirecting(location: str) -> AsyncIterator[str]:
    """A server that only redirects; `location` is sent as it stands, as bytes of UTF-8."""

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode() + b"\r\n\r\n"
        )

    async with server(answer, REDIRECTING) as base:
        yield base


def test_the_table_is_long_enough() -> None:
    assert len(set(URLS)) == len(URLS) >= 160


@pytest.mark.parametrize("url", URLS)
async def test_a_hostile_url_reaches_nothing(out: Path, canary: Canary, url: str) -> None:
    port, came = canary
    assert await refused(url.format(port=port), out, PUBLIC_ONLY)
    assert came == []


@pytest.mark.parametrize(
    "url", [*URLS, "data:video/mp4;base64,AAAA", "data:,x", "//127.0.0.1:{port}/", "//[::1]:{port}/"]
)
async def test_nor_does_a_redirect_to_it(out: Path, canary: Canary, url: str) -> None:
    port, came = canary
    limits = FetchSettings.model_validate({**PUBLIC_ONLY.model_dump(), "allow": [f"{REDIRECTING}/32"]})
    async with redirecting(url.format(port=port)) as base:
        assert await refused(base, out, limits)
    assert came == []


async def test_the_listeners_can_be_reached(canary: Canary, out: Path) -> None:
    """With private addresses allowed, the same URLs do arrive: the tests above can fail."""
    port, came = canary
    for host in ("127.0.0.1", "127.1", "2130706433", "127.0.0.2", "[::1]", "[::ffff:7f00:1]", "localhost"):
        await refused(f"http://{host}:{port}/", out)
    assert len(came) >= 7 and set(came) == {"127.0.0.1", "127.0.0.2", "::1"}


async def test_bodies_of_redirects_are_not_read(out: Path) -> None:
    sent = 0

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if path == "/end":
            writer.write(head("200 OK", "Content-Length: 3") + b"end")
            return
        writer.write(head("302 Found", "Location: /end", "Content-Encoding: gzip"))
        for _ in range(1000):
            writer.write(b"\0" * 65536)
            sent += 65536
            await writer.drain()

    async with server(answer) as base:
        assert await fetch(base, out, LIMITS) == 3
    assert out.read_bytes() == b"end"
    assert sent < 50_000_000
