"""Downloads from the real server on loopback, as players, browsers and attackers request them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.signing import Signer
from serve_app.settings import UploadSettings
from tests.waiting import PATIENCE_S

BODY = os.urandom(1_000_003)
NAME = "outputs/0b0c/output.webm"
SIGNER = Signer(b"a secret of this test")


@pytest.fixture
def store(tmp_path: Path) -> Artifacts:
    store = Artifacts(tmp_path / "artifacts")
    store.put_bytes(NAME, BODY)
    for name in ("jobs/0b0c/source", "secret", "uploads-parts/0b0c/00001-x"):
        store.put_bytes(name, b"hidden")
    (tmp_path / "outside.mp4").write_bytes(b"hidden")
    (store.root / "outputs" / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    return store


@pytest_asyncio.fixture
async def server(store: Artifacts) -> AsyncIterator[HttpServer]:
    server = HttpServer(make_files_app(store, SIGNER, UploadSettings()), "127.0.0.1", 0, drain_s=1)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def client(server: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client


URL = SIGNER.file_path(NAME)


async def test_a_complete_file(client: httpx.AsyncClient) -> None:
    reply = await client.get(URL)
    assert reply.status_code == 200 and reply.content == BODY
    assert reply.headers["content-type"] == "video/webm"
    assert reply.headers["content-length"] == str(len(BODY))
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "content-range" in reply.headers["access-control-expose-headers"]
    assert reply.headers["etag"] and reply.headers["last-modified"]


async def test_head_has_the_headers_and_no_body(client: httpx.AsyncClient) -> None:
    reply, full = await client.head(URL), await client.get(URL)
    assert reply.status_code == 200 and reply.content == b""
    for name in ("content-type", "content-length", "etag", "accept-ranges"):
        assert reply.headers[name] == full.headers[name]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299999", 100, 300_000),
        ("bytes=1000000-", 1_000_000, len(BODY)),
        ("bytes=-10", len(BODY) - 10, len(BODY)),
        ("bytes=500000-99999999", 500_000, len(BODY)),
    ],
)
async def test_ranges(client: httpx.AsyncClient, asked: str, start: int, stop: int) -> None:
    reply = await client.get(URL, headers={"Range": asked})
    assert reply.status_code == 206 and reply.content == BODY[start:stop]
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"
    assert reply.headers["access-control-allow-origin"] == "*"
    head = await client.head(URL, headers={"Range": asked})
    assert (head.status_code, head.headers["content-length"]) == (206, str(stop - start))


async def test_multiple_ranges(client: httpx.AsyncClient) -> None:
    reply = await client.get(URL, headers={"Range": "bytes=0-9,100-109"})
    assert reply.status_code == 206
    assert reply.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert BODY[:10] in reply.content and BODY[100:110] in reply.content
    assert int(reply.headers["content-length"]) == len(reply.content) < 1000


async def test_a_range_beyond_the_end(client: httpx.AsyncClient) -> None:
    reply = await client.get(URL, headers={"Range": f"bytes={len(BODY)}-"})
    assert reply.status_code == 416 and reply.headers["content-range"] == f"bytes */{len(BODY)}"


async def test_if_range(client: httpx.AsyncClient) -> None:
    etag = (await client.head(URL)).headers["etag"]
    current = await client.get(URL, headers={"Range": "bytes=5-9", "If-Range": etag})
    assert current.status_code == 206 and current.content == BODY[5:10]
    changed = await client.get(URL, headers={"Range": "bytes=5-9", "If-Range": '"other"'})
    assert changed.status_code == 200 and changed.content == BODY


async def test_conditional_requests(client: httpx.AsyncClient, store: Artifacts) -> None:
    headers = (await client.head(URL)).headers
    etag, date = headers["etag"], headers["last-modified"]
    for method in ("GET", "HEAD"):
        for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            reply = await client.request(method, URL, headers={"If-None-Match": value})
            assert reply.status_code == 304 and reply.content == b"" and reply.headers["etag"] == etag
    assert (await client.get(URL, headers={"If-Modified-Since": date})).status_code == 304
    for headers_sent in (
        {"If-None-Match": '"other"', "If-Modified-Since": date},
        {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
    ):
        assert (await client.head(URL, headers=headers_sent)).status_code == 200
    store.put_bytes(NAME, b"another file")
    assert (await client.get(URL, headers={"If-None-Match": etag})).content == b"another file"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("outputs/x/v.mp4", "video/mp4"),
        ("outputs/x/v.webm", "video/webm"),
        ("outputs/x/v.mov", "video/quicktime"),
        ("outputs/x/v.gif", "image/gif"),
        ("uploads/0000000000-ab/v.MKV", "video/x-matroska"),
        ("uploads/0000000000-ab/page.html", "application/octet-stream"),
        ("uploads/0000000000-ab/image.svg", "application/octet-stream"),
        ("uploads/0000000000-ab/none", "application/octet-stream"),
    ],
)
async def test_content_types(client: httpx.AsyncClient, store: Artifacts, name: str, kind: str) -> None:
    store.put_bytes(name, b"")
    reply = await client.get(SIGNER.file_path(name))
    assert (reply.status_code, reply.headers["content-type"], reply.content) == (200, kind, b"")
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_preflight_and_methods(client: httpx.AsyncClient) -> None:
    reply = await client.options(URL, headers={"Origin": "https://page.example"})
    assert (reply.status_code, reply.content) == (204, b"")
    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert {"range", "authorization", "content-type", "x-fal-file-name"} < set(allowed)
    assert {"GET", "PUT", "POST"} < set(reply.headers["access-control-allow-methods"].split(", "))
    assert reply.headers["access-control-allow-origin"] == "*"
    for method in ("POST", "PUT", "DELETE"):
        reply = await client.request(method, URL)
        assert reply.status_code == 405 and reply.json() == {"detail": "Method Not Allowed"}


SIGNED = URL.split("/")[2]
NOT_SERVED = [
    "/",
    "/files",
    "/files/",
    f"/files/{NAME}",
    f"/files/{SIGNED}",
    f"/files/{SIGNED}/",
    f"/files//{NAME}",
    f"{URL}/",
    f"{URL}%00",
    f"/files/{SIGNED}/outputs/../{NAME}",
    f"/files/{SIGNED}/outputs/%2e%2e/{NAME}",
    f"/files/{SIGNED}/outputs/0b0c/other.webm",
    f"/files/{SIGNED[:-1]}/{NAME}",
    f"/files/{SIGNED}A/{NAME}",
    f"/files/{SIGNED[:-1]}{'A' if SIGNED[-1] != 'A' else 'B'}/{NAME}",
    f"/files/{SIGNED.swapcase()}/{NAME}",
    f"/files/%ff%fe/{NAME}",
    f"/files/{'a' * 5000}/{NAME}",
    "/files//etc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/../../../../etc/passwd",
]

# Names that are never signed: they are not served even with a valid signature.
NEVER_SIGNED = [
    "jobs/0b0c/source",
    "secret",
    "outputs",
    "outputs/",
    "outputs/0b0c",
    "outputs/../jobs/0b0c/source",
    "outputs/..\\jobs/0b0c/source",
    "uploads/../jobs/0b0c/source",
    "uploads-parts/0b0c/00001-x",
    "/etc/passwd",
    "outputs/link.mp4",
    "outputs/0b0c/output.webm/",
    "outputs/0b0c/output.webm\0",
    "outputs/" + "a" * 5000,
]


async def test_other_paths_are_not_served(server: HttpServer) -> None:
    """Sent as raw bytes: an HTTP client would normalize these paths."""
    wrong = []
    for path in NOT_SERVED + [f"/files/{SIGNER.sign_path(name)}/{quote(name)}" for name in NEVER_SIGNED]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        fine = head.startswith(b"HTTP/1.1 404 ") and b"application/json" in head
        if not fine or b"hidden" in body or not body.startswith(b'{"detail":"Path /'):
            wrong.append((path, head[:40], body[:40]))
    assert wrong == []


async def test_percent_encoded_names(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/files/{SIGNED}/outputs%2F0b0c/output%2ewebm")).content == BODY


async def test_concurrent_readers_and_one_that_disconnects(
    client: httpx.AsyncClient, server: HttpServer
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(1000)
    writer.transport.abort()
    replies = await asyncio.gather(*(client.get(URL) for _ in range(20)))
    assert all(reply.content == BODY for reply in replies)
    server.check()


async def test_two_servers_share_a_port_during_an_update(
    server: HttpServer, client: httpx.AsyncClient, store: Artifacts
) -> None:
    second = HttpServer(make_files_app(store, SIGNER, UploadSettings()), "127.0.0.1", server.port, drain_s=1)
    await second.start()
    await server.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        server.check()
    async with httpx.AsyncClient(trust_env=False) as fresh:
        for _ in range(10):
            assert (await fresh.head(f"http://127.0.0.1:{second.port}{URL}")).status_code == 200
    second.check()
    await second.stop()


async def test_a_port_in_use(store: Artifacts) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="choose a free port"):
            HttpServer(
                make_files_app(store, SIGNER, UploadSettings()),
                "127.0.0.1",
                other.getsockname()[1],
                drain_s=1,
            )


async def test_stopping_aborts_a_stalled_reader(store: Artifacts) -> None:
    store.put_bytes("outputs/big.mp4", bytes(30_000_000))
    server = HttpServer(make_files_app(store, SIGNER, UploadSettings()), "127.0.0.1", 0, drain_s=1)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    path = SIGNER.file_path("outputs/big.mp4")
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(100)  # and no more
    async with asyncio.timeout(PATIENCE_S):
        await server.stop()
    writer.transport.abort()
