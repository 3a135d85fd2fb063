"""Whole files uploaded to the real file server on loopback, as the two official clients send them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.signing import Purpose
from serve_app.files.upload_names import new_upload
from serve_app.files.uploads import parts_token, put_token
from serve_app.settings import UploadSettings
from tests.files.uploads_harness import (
    DATA,
    LIMITS,
    SIGNER,
    Serve,
    bearer,
    whole,
)
from tests.waiting import PATIENCE_S, until

NAME = re.compile(r"uploads/(\d{10})-([0-9a-f]{32})/([A-Za-z0-9._-]+)")


async def test_a_complete_file(client: httpx.AsyncClient, store: Artifacts) -> None:
    headers = bearer() | {"X-Fal-File-Name": "my clip.MP4", "Content-Type": "video/mp4"}
    reply = await client.post("/files/upload", content=DATA, headers=headers)
    assert reply.status_code == 200
    url = reply.json()["access_url"]
    assert url.startswith(str(client.base_url))
    download = await client.get(url, headers={"Range": "bytes=0-"})
    assert download.content == DATA and download.headers["content-type"] == "video/mp4"
    (name,) = whole(store)
    parts = NAME.fullmatch(name)
    assert parts is not None
    expires, _, file_name = parts.groups()
    assert file_name == "my_clip.MP4" and 900 < int(expires) - time.time() < 1001


async def test_a_file_without_metadata(client: httpx.AsyncClient) -> None:
    url = (await client.post("/files/upload", content=b"", headers=bearer())).json()["access_url"]
    reply = await client.get(url)
    assert url.endswith("/upload") and reply.content == b""
    assert reply.headers["content-type"] == "application/octet-stream"


async def test_a_file_kept_forever(client: httpx.AsyncClient, store: Artifacts) -> None:
    headers = bearer() | {"X-Fal-Object-Lifecycle": '{"expiration_duration_seconds": null}'}
    assert (await client.post("/files/upload", content=b"x", headers=headers)).status_code == 200
    (name,) = whole(store)
    assert name.startswith("uploads/0000000000-")


async def test_uploads_need_a_token(client: httpx.AsyncClient, store: Artifacts) -> None:
    put = SIGNER.token(Purpose.PUT, {"account": "me"}, 60)
    for headers in (
        {},
        {"Authorization": "Key id:secret"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {put}"},
        {"Authorization": f"Bearer {SIGNER.token(Purpose.APP, {'account': 'me'}, 60)}"},
        bearer(lifetime_s=-1),
    ):
        for path in ("/files/upload", "/files/upload/multipart"):
            reply = await client.post(path, content=b"data", headers=headers)
            assert reply.status_code == 401 and isinstance(reply.json()["detail"], str)
            assert reply.headers["access-control-allow-origin"] == "*"
    assert whole(store) == []
    lower = {"authorization": bearer()["Authorization"].replace("Bearer", "bearer ")}
    assert (await client.post("/files/upload", content=b"data", headers=lower)).status_code == 200


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


async def test_a_file_that_is_too_large(client: httpx.AsyncClient, store: Artifacts) -> None:
    data = bytes(1_000_001)
    token = put_token(SIGNER, new_upload("v.mp4", None, 0), None)
    for body in (lambda: data, lambda: _slices(data)):  # with and without a declared length
        for method, path, headers in (
            ("POST", "/files/upload", bearer()),
            ("PUT", f"/files/upload?token={token}", {}),
        ):
            reply = await client.request(method, path, content=body(), headers=headers)
            assert reply.status_code == 413
            assert reply.json()["error_type"] == reply.headers["x-fal-error-type"] == "file_too_large"
            assert "1000000 bytes" in reply.json()["detail"]
    assert whole(store) == []
    assert (await client.post("/files/upload", content=data[1:], headers=bearer())).status_code == 200


async def test_a_file_larger_than_the_free_space(serve: Serve, store: Artifacts) -> None:
    client = await serve(make_files_app(store, SIGNER, UploadSettings(max_bytes=1 << 60)))
    request = client.build_request("POST", "/files/upload", content=_slices(b""), headers=bearer())
    del request.headers["transfer-encoding"]
    request.headers["content-length"] = str(1 << 59)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    writer.write(f"POST /files/upload HTTP/1.1\r\n{head}\r\n".encode())
    status = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert status.startswith(b"HTTP/1.1 500 ") and b"application/json" in status
    assert whole(store) == []


@pytest.mark.parametrize("head", ["Content-Length: 900000", "Transfer-Encoding: chunked"])
async def test_an_interrupted_upload_leaves_nothing(serve: Serve, store: Artifacts, head: str) -> None:
    app = make_files_app(store, SIGNER, LIMITS)
    ended = asyncio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        ended.set()

    client = await serve(watched)
    body = b"3\r\nabc\r\n" if "chunked" in head else b"abc"
    _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    authorization = bearer()["Authorization"]
    writer.write(
        f"POST /files/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{head}\r\n\r\n".encode()
    )
    writer.write(body)
    await writer.drain()
    await until(lambda: any(name.endswith("/body") for name in whole(store)))
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()
    assert whole(store) == []


async def test_an_upload_that_stalls(serve: Serve, store: Artifacts) -> None:
    app, ended, never = (
        make_files_app(store, SIGNER, UploadSettings(idle_s=0.05)),
        asyncio.Event(),
        asyncio.Event(),
    )

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        ended.set()

    client = await serve(watched)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"abc"
        await never.wait()

    request = asyncio.create_task(client.post("/files/upload", content=stalled(), headers=bearer()))
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()
    never.set()  # the client reads no reply before it has sent its request
    reply = await request
    assert reply.status_code == 408 and reply.json()["error_type"] == "upload_stalled"
    assert whole(store) == []


async def test_a_file_with_a_token(client: httpx.AsyncClient, store: Artifacts) -> None:
    name = new_upload("v.mp4", "video/mp4", 0)
    url = f"/files/upload?token={put_token(SIGNER, name, None)}"
    for data, headers in (
        (b"first", {}),
        (DATA, {"Authorization": "Key ignored", "Content-Type": "video/mp4"}),
    ):
        reply = await client.put(url, content=data, headers=headers)
        assert reply.status_code == 200 and reply.json()  # never a JSON type without a body
        assert (await client.get(SIGNER.file_path(name))).content == data
    assert whole(store) == [name]


async def test_a_token_is_valid_for_one_upload(client: httpx.AsyncClient, store: Artifacts) -> None:
    name = new_upload("v.mp4", "video/mp4", 0)
    put, parts = put_token(SIGNER, name, None), parts_token(SIGNER, name, None)
    expired = SIGNER.token(Purpose.PUT, {"name": name, "account": None}, -1)
    for path in (
        "/files/upload",
        "/files/upload?token=",
        f"/files/upload?token={put}x",
        f"/files/upload?token={parts}",
        f"/files/upload?token={expired}",
        f"/files/upload?token={bearer()['Authorization'].split()[1]}",
        f"/files/upload/multipart/{put}/1",
        "/files/upload/multipart/x/1",
    ):
        reply = await client.put(path, content=b"data", headers=bearer())
        assert reply.status_code == 401, path
    reply = await client.post(f"/files/upload/multipart/{put}/complete", json={"parts": []})
    assert reply.status_code == 401
    assert whole(store) == []


@pytest.mark.parametrize("path", ["/files/upload", "/files/upload?token=x", "/files/upload/multipart/x/1"])
async def test_preflights(client: httpx.AsyncClient, path: str) -> None:
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "PUT"}
    reply = await client.options(path, headers=headers)
    assert (reply.status_code, reply.content) == (204, b"")
    assert "PUT" in reply.headers["access-control-allow-methods"]
    assert "content-type" in reply.headers["access-control-allow-headers"]
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_a_public_url(serve: Serve, store: Artifacts) -> None:
    client = await serve(make_files_app(store, SIGNER, LIMITS, "https://files.example/media/"))
    reply = await client.post("/files/upload", content=b"x", headers=bearer())
    assert reply.json()["access_url"].startswith("https://files.example/media/files/")


async def test_uploads_under_way_have_their_space_promised(serve: Serve, store: Artifacts) -> None:
    """Two uploads each of which would fit alone: the second is refused while the first is under way, and only then."""
    client = await serve(make_files_app(store, SIGNER, UploadSettings(max_bytes=1 << 60, keep_free_bytes=0)))
    head = (
        f"POST /files/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        f"Content-Length: {store.free_bytes() * 6 // 10}\r\n\r\n"
    ).encode()

    async def begun() -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(head + b"x")
        await until(lambda: any(store.root.rglob("body")))
        return writer

    async def ended(writer: asyncio.StreamWriter) -> None:
        writer.close()
        await until(lambda: not any(store.root.rglob("body")))

    first = await begun()
    reader, second = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    second.write(head)
    assert (await reader.readline()).startswith(b"HTTP/1.1 500 ")
    second.close()
    await ended(first)
    await ended(await begun())
