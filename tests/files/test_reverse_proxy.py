"""The reverse proxy on loopback with a real upstream: routing and relaying."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.api.middleware.host_prefix import ForwardedScheme
from serve_app.local.certs import CertFiles, make_certificates
from tests.files.proxy_harness import StartProxy, Upstream


async def test_routing_by_path_and_host(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for host, path, to_files in (
        ("127.0.0.1:8000", "/files/signature/outputs/1/v.mp4", True),
        ("queue.fal.run", "/files/upload", True),
        ("v3.fal.media", "/files/upload", True),
        ("V3.FAL.MEDIA:443", "/anything", True),
        ("v3b.fal.media", "/", True),
        ("fal.media", "/", True),
        ("127.0.0.1:8000", "/filesystem", False),
        ("127.0.0.1:8000", "/queue/files/upload", False),
        ("fal.run", "/fal-ai/birefnet/v2/video", False),
        ("rest.fal.ai", "/storage/upload/initiate", False),
        ("notfal.media", "/", False),
        ("v3.fal.media.example", "/", False),
        ("", "/health", False),
    ):
        reply = await client.get(path, headers={"Host": host})
        if to_files:
            assert (reply.status_code, reply.text) == (200, "files")
        else:
            assert (reply.status_code, reply.json()["target"]) == (418, [path, ""])
            assert ["host", host] in reply.json()["headers"]


async def test_headers_are_relayed_in_both_directions(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    reply = await client.post(
        "/x",
        content=b"body",
        headers=[
            ("Host", "queue.fal.run"),
            ("Authorization", "Key a:b"),
            ("X-Fal-Tag", "one"),
            ("X-Fal-Tag", "two"),
            ("X-Forwarded-Proto", "gopher"),
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "for the proxy_server alone"),
            ("TE", "trailers"),
            ("Expect", "100-continue"),
        ],
    )
    seen = reply.json()["headers"]
    for pair in (["host", "queue.fal.run"], ["authorization", "Key a:b"], ["content-length", "4"]):
        assert seen.count(pair) == 1
    assert [value for name, value in seen if name == "x-fal-tag"] == ["one", "two"]
    assert [value for name, value in seen if name == "x-forwarded-proto"] == ["http"]
    assert not {"x-hop", "te", "expect", "keep-alive"} & {name for name, _ in seen}
    assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert reply.headers["x-fal-request-id"] == "of the upstream"
    assert len(reply.headers.get_list("date")) == len(reply.headers.get_list("server")) == 1
    again = (await client.get("/x", headers={"Cookie": ""})).json()["headers"]
    assert ["cookie", "a=1"] not in again  # the proxy does not share cookies between clients


async def test_the_request_target_is_relayed_unchanged(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for target in ("/a%2Fb/c%20d/?logs=1&x=%26", "/", "//x//", "/a?b?c", "/%C3%A9;v=1"):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        path, _, query = target.partition("?")
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["target"] == [path, query]


async def test_methods_and_bodies(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        for body in (None, b"", b"x" * 1_000_003):
            reply = (await client.request(method, "/x", content=body)).json()
            digest = hashlib.sha256(body or b"").hexdigest()
            assert (reply["method"], reply["body"]) == (method, [len(body or b""), digest])


async def test_a_body_of_unknown_length(start_proxy: StartProxy, upstream: Upstream) -> None:
    async def body() -> AsyncIterator[bytes]:
        for part in (b"one", b"two", b"three"):
            yield part

    client = await start_proxy(upstream.app())
    reply = (await client.post("/x", content=body())).json()
    assert reply["body"] == [11, hashlib.sha256(b"onetwothree").hexdigest()]
    assert ["transfer-encoding", "chunked"] in reply["headers"]


async def test_replies_without_a_body(start_proxy: StartProxy, upstream: Upstream) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=int(scope["path"][1:]))(scope, receive, send)

    client = await start_proxy(app)
    for status in (204, 304):
        reply = await client.get(f"/{status}")
        assert (reply.status_code, reply.content) == (status, b"")
    head = await (await start_proxy(upstream.app())).head("/x")
    assert (head.status_code, head.content) == (418, b"")
    assert int(head.headers["content-length"]) > 100


async def test_no_redirect_is_followed(start_proxy: StartProxy, upstream: Upstream) -> None:
    client = await start_proxy(upstream.app())
    reply = await client.get("/moved")
    assert (reply.status_code, reply.headers["location"]) == (307, "https://elsewhere.example/")


async def test_events_are_not_buffered(start_proxy: StartProxy, upstream: Upstream) -> None:
    """Each event is sent only after the previous one has arrived."""
    client = await start_proxy(upstream.app())
    async with client.stream("GET", "/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        chunks = reply.aiter_text()
        for text in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED"):
            upstream.step.put_nowait(text)
            assert await anext(chunks) == f"data: {text}\n\n"
        upstream.step.put_nowait("")
        assert [chunk async for chunk in chunks] == []


async def test_the_client_scheme_is_forwarded(
    start_proxy: StartProxy, upstream: Upstream, tmp_path: Path
) -> None:
    certs = CertFiles(tmp_path)
    make_certificates(certs)
    client = await start_proxy(ForwardedScheme(upstream.app()), certs)
    reply = (await client.get("/x")).json()
    assert reply["scheme"] == "https"
    assert ["x-forwarded-proto", "https"] in reply["headers"]
