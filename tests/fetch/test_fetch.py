"""Fetching from a real server on loopback, with all kinds of server errors."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path

import pytest

from serve_app.errors import FileTooLarge, StorageFull
from serve_app.fetch.fetch import fetch
from serve_app.settings import FetchSettings
from tests.fetch.loopback import BODY, LIMITS, complete, head, refused, server


async def test_a_file_is_complete(out: Path) -> None:
    async with server(complete) as base:
        assert await fetch(f"{base}/v.mp4?x=1", out, LIMITS) == len(BODY)
    assert out.read_bytes() == BODY


async def test_chunked_and_close_delimited_bodies(out: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/chunked":
            writer.write(head("200 OK", "Transfer-Encoding: chunked") + b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")
        else:
            writer.write(head("200 OK", "Connection: close") + b"abcdef")

    async with server(answer) as base:
        for path in ("/chunked", "/close"):
            assert await fetch(base + path, out, LIMITS) == 6
            assert out.read_bytes() == b"abcdef"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "GZip", "identity, br", "zstd"])
async def test_compressed_bodies_are_refused_unread(out: Path, encoding: str) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        bomb = gzip.compress(gzip.compress(bytes(100_000)))
        writer.write(head("200 OK", f"Content-Encoding: {encoding}", f"Content-Length: {len(bomb)}") + bomb)

    async with server(answer) as base:
        assert "compresses it" in await refused(base, out)


async def test_identity_is_no_compression(out: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", "Content-Encoding: identity", f"Content-Length: {len(BODY)}") + BODY)

    async with server(answer) as base:
        assert await fetch(base, out, LIMITS) == len(BODY)


async def test_ports_and_networks_may_be_restricted(out: Path) -> None:
    async with server(complete) as base:
        port = int(base.rpartition(":")[2])
        for rules, words in (
            ({"ports": (80, 443)}, f"does not connect to port {port}"),
            ({"ports": (port,)}, ""),
            ({"deny": ("127.0.0.0/8",)}, "not on the public internet"),
            ({"allow": ("127.0.0.1/32",), "allow_private": False}, ""),
            ({"allow": ("127.0.0.1",), "deny": ("127.0.0.1",)}, "not on the public internet"),
        ):
            limits = FetchSettings.model_validate({**LIMITS.model_dump(), **rules})
            if words:
                assert words in await refused(base, out, limits)
            else:
                assert await fetch(base, out, limits) == len(BODY)
                out.unlink()


async def test_redirects_are_followed(out: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/end":
            await complete(path, writer)
        else:
            writer.write(head("302 Found", "Location: /end", "Content-Length: 0"))

    async with server(answer) as base:
        assert await fetch(f"{base}/start", out, LIMITS) == len(BODY)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/again", "more than 5 redirects"),
        ("ftp://127.0.0.1/x", "redirect leads to something other"),
        ("data:video/mp4;base64,AAAA", "redirect leads to an invalid URL"),
        ("file:///etc/passwd", "redirect leads to something other"),
        ("http://h:x/", "invalid literal"),
    ],
)
async def test_invalid_redirects(out: Path, location: str, words: str) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("302 Found", f"Location: {location}", "Content-Length: 0"))

    async with server(answer) as base:
        assert words in await refused(base, out)


@pytest.mark.parametrize(
    "status", ["404 Not Found", "403 Forbidden", "500 Oops", "204 No Content", "304 Same"]
)
async def test_any_other_status_is_a_failure(out: Path, status: str) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, "Content-Length: 0"))

    async with server(answer) as base:
        assert f"answered {status}" in await refused(base, out)


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_an_interrupted_transfer(out: Path, framing: str) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", framing) + b"5\r\nabcde\r\n")

    async with server(answer) as base:
        assert "was interrupted" in await refused(base, out)


async def test_a_server_without_http(out: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")

    async with server(answer) as base:
        assert "was interrupted" in await refused(base, out)
        hasty = LIMITS.model_copy(update={"connect_s": 0.3})
        assert "no connection" in await refused(base.replace("http:", "https:"), out, hasty)


async def test_too_large_by_declared_and_by_actual_size(out: Path) -> None:
    sent = 0

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if path == "/announced":
            writer.write(head("200 OK", "Content-Length: 100001"))
            return
        writer.write(head("200 OK", "Connection: close"))
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with server(answer) as base:
        for path in ("/announced", "/endless"):
            with pytest.raises(FileTooLarge) as caught:
                await fetch(base + path, out, LIMITS)
            assert caught.value.context == {"max_size": 100_000}
            assert not out.exists()
    assert sent < 50_000_000


async def test_the_limit_itself_is_allowed(out: Path) -> None:
    async with server(complete) as base:
        assert await fetch(base, out, LIMITS.model_copy(update={"max_bytes": len(BODY)})) == len(BODY)


async def test_time_limits(out: Path) -> None:
    finished = asyncio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", "Content-Length: 1000"))
        while path == "/trickle" and not finished.is_set():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
        await finished.wait()

    async with server(answer) as base:
        assert "sent nothing for 0.2 s" in await refused(base, out, LIMITS.model_copy(update={"read_s": 0.2}))
        assert "longer than 0.3 s" in await refused(
            f"{base}/trickle", out, LIMITS.model_copy(update={"total_s": 0.3})
        )
        finished.set()


async def test_cancellation_leaves_nothing(out: Path) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", "Content-Length: 1000") + b"half")
        await writer.drain()
        begun.set()
        await end.wait()

    async with server(answer) as base:
        task = asyncio.create_task(fetch(base, out, LIMITS))
        await begun.wait()
        assert out.exists()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end.set()
    assert not out.exists()


async def test_a_port_without_a_listener(out: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))  # bound but not listening: no other process can take the port
        assert "refused" in (await refused(f"http://127.0.0.1:{holder.getsockname()[1]}/", out)).lower()


async def test_an_unknown_host_name(out: Path) -> None:
    assert "cannot be resolved" in await refused("http://nowhere.invalid/v.mp4", out)
    assert "cannot be resolved" in await refused(f"http://{'a' * 70}.invalid/v.mp4", out)


@pytest.mark.parametrize(
    "url",
    ["", "v.mp4", "/etc/passwd", "file:///etc/passwd", "ftp://host/v", "s3://b/k", "javascript:1"],
)
async def test_other_schemes(out: Path, url: str) -> None:
    assert "http:// or https://" in await refused(url, out)


@pytest.mark.parametrize(
    "url", ["http://", "http:///v.mp4", "http://[::1", "http://h:x/", "http://a\nb/", "http://\ud800/"]
)
async def test_invalid_urls(out: Path, url: str) -> None:
    assert "not valid" in await refused(url, out)


@pytest.mark.parametrize("framing", [f"Content-Length: {len(BODY)}", "Connection: close"])
async def test_a_source_leaves_free_space(out: Path, framing: str) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(head("200 OK", framing) + BODY)

    limits = LIMITS.model_copy(update={"keep_free_bytes": 1 << 60})
    async with server(answer) as base:
        for url in (base, "data:video/mp4;base64,AAAA"):
            with pytest.raises(StorageFull, match="free space in the data directory"):
                await fetch(url, out, limits)
            assert not out.exists()
