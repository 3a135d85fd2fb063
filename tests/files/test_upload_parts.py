"""Multipart uploads, as the two official clients send them."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from pathlib import Path

import httpx
import pytest_asyncio

from serve_app.artifacts.store import Artifacts, NodeDisk
from serve_app.files.app import make_files_app
from serve_app.files.upload_names import new_upload
from serve_app.files.uploads import parts_token
from tests.artifacts.s3 import S3Server
from tests.files.uploads_harness import (
    DATA,
    LIMITS,
    SIGNER,
    Parts,
    Serve,
    bearer,
    split,
    whole,
)


@pytest_asyncio.fixture
async def parts(client: httpx.AsyncClient) -> Parts:
    parts = Parts(client, bearer())
    await parts.initiate()
    return parts


async def test_parts_in_parallel_and_in_any_order(
    parts: Parts, client: httpx.AsyncClient, store: Artifacts
) -> None:
    pieces = list(split(DATA, 12_345).items())
    random.Random(1).shuffle(pieces)
    replies = await asyncio.gather(*(parts.put(number, data) for number, data in pieces))
    assert {reply.status_code for reply in replies} == {200}
    assert (await client.get(parts.url)).status_code == 404
    random.Random(2).shuffle(parts.etags)
    reply = await parts.complete()
    assert reply.status_code == 200 and reply.json() == {"access_url": parts.url}
    download = await client.get(parts.url)
    assert download.content == DATA and download.headers["content-type"] == "video/mp4"
    (name,) = whole(store)
    expires = int(name.split("/")[1].split("-")[0])
    assert (
        expires - time.time() > 86_000
    )  # the upload may take a day, which is longer than the requested lifetime


async def test_completion_is_idempotent(parts: Parts, client: httpx.AsyncClient, store: Artifacts) -> None:
    for number, data in split(DATA, 100_000).items():
        await parts.put(number, data)
    replies = await asyncio.gather(*(parts.complete() for _ in range(4)))
    replies.append(await parts.complete())
    assert [reply.status_code for reply in replies] == [200] * 5
    assert (await client.get(parts.url)).content == DATA
    assert len(whole(store)) == 1


async def test_a_part_sent_twice(parts: Parts, client: httpx.AsyncClient) -> None:
    for number, data in ((1, b"broken"), (2, b"two"), (1, b"one"), (2, b"two")):
        await parts.put(number, data)
    assert parts.etags[1] == parts.etags[3]
    assert (await parts.complete({"parts": parts.etags[2:]})).status_code == 200
    assert (await client.get(parts.url)).content == b"onetwo"


async def test_invalid_parts(parts: Parts, store: Artifacts) -> None:
    for number in (1, 2, 3):
        await parts.put(number, b"%d" % number)
    one, two, three = parts.etags
    other = one | {"etag": '"' + "0" * 32 + '"'}
    for wrong in (
        [],
        [two],
        [one, three],
        [one, one],
        [one, two, two],
        [one, two | {"etag": one["etag"]}],
        [other],
        [one | {"etag": "../../../secret"}],
        [one | {"etag": ""}],
        [one, two, three, {"partNumber": 4, "etag": one["etag"]}],
        [one | {"partNumber": 0}],
    ):
        reply = await parts.complete({"parts": wrong})
        assert reply.status_code == 400 and reply.json()["error_type"] == "invalid_part", wrong
    assert not any(name.startswith("uploads/") for name in whole(store))
    unquoted = [part | {"etag": part["etag"].strip('"')} for part in (one, two)]
    assert (
        await parts.complete({"parts": [*unquoted, three | {"etag": "W/" + three["etag"]}]})
    ).status_code == 200


async def test_invalid_lists_of_parts(parts: Parts) -> None:
    for body, kind in (
        (b"", "json_invalid"),
        (b"{", "json_invalid"),
        (b"[]", "model_type"),
        (b"{}", "missing"),
        (b'{"parts": 1}', "list_type"),
        (b'{"parts": [{"partNumber": "x", "etag": null}]}', "int_parsing"),
    ):
        reply = await parts.client.post(f"{parts.base}/complete", content=body, headers=parts.headers)
        item = reply.json()["detail"][0]
        assert (reply.status_code, item["type"], item["loc"][0]) == (422, kind, "body") and item["msg"]
    huge = b'{"parts": [' + b" " * (5 << 20)
    reply = await parts.client.post(f"{parts.base}/complete", content=huge, headers=parts.headers)
    assert reply.status_code == 413 and reply.json()["detail"]


async def test_part_numbers(parts: Parts) -> None:
    for number, status in (
        (0, 400),
        (10_001, 400),
        ("x", 404),
        ("-1", 404),
        ("1.5", 404),
        ("²", 404),
        ("9" * 5000, 404),
    ):
        assert (await parts.put(number, b"data")).status_code == status
    assert (await parts.put(10_000, b"data")).status_code == 200


async def test_parts_that_exceed_the_size_limit(parts: Parts, store: Artifacts) -> None:
    for number in (1, 2, 3):
        assert (await parts.put(number, os.urandom(400_000))).status_code == 200
    reply = await parts.complete()
    assert reply.status_code == 413 and reply.json()["error_type"] == "file_too_large"
    assert (await parts.put(4, bytes(1_000_001))).status_code == 413
    assert not any(name.startswith("uploads/") for name in whole(store))


async def test_parts_belong_to_their_account(
    parts: Parts, client: httpx.AsyncClient, store: Artifacts
) -> None:
    await parts.put(1, b"mine")
    for headers, status in (
        ({}, 401),
        (bearer("other"), 404),
        (bearer(None), 404),
        (bearer(lifetime_s=-1), 401),
    ):
        assert (await parts.put(1, b"theirs", headers)).status_code == status
        assert (await parts.complete(headers=headers)).status_code == status
    second = Parts(client, parts.headers)
    await second.initiate()
    upload = second.base.rsplit("/", 1)[1]
    for base in (
        f"{parts.url}/multipart/{upload}",  # of another file
        f"{parts.url}x/multipart/{parts.base.rsplit('/', 1)[1]}",  # of a name that was not signed
        parts.base.replace("/files/", "/files/x"),  # by a URL that was not signed
    ):
        reply = await client.put(f"{base}/1", content=b"data", headers=parts.headers)
        assert reply.status_code == 404
    reply = await client.put(f"{parts.url}/multipart/nonsense/1", content=b"data", headers=parts.headers)
    assert reply.status_code == 401
    assert len(whole(store)) == 1


async def test_parts_with_a_token(client: httpx.AsyncClient, store: Artifacts) -> None:
    """As the JavaScript client does it: one after the other, completing with the replies' bodies."""
    name = new_upload("v.webm", "video/webm", 0)
    path = f"/files/upload/multipart/{parts_token(SIGNER, name, None)}"
    found = []
    for number, data in split(DATA, 77_777).items():
        reply = await client.put(f"{path}/{number}", content=data)
        assert reply.status_code == 200 and reply.json()["partNumber"] == number
        found.append(reply.json())
    reply = await client.post(f"{path}/complete", json={"parts": found})
    assert reply.status_code == 200 and reply.json()
    assert (await client.get(SIGNER.file_path(name))).content == DATA
    assert whole(store) == [name]


async def test_parts_as_the_fal_sdk_sends_them(client: httpx.AsyncClient, store: Artifacts) -> None:
    """It asks for the URL of each part, and completes with names of its own."""
    name = new_upload("v.webm", "video/webm", 0)
    path = f"/files/upload/multipart/{parts_token(SIGNER, name, None)}"
    found = []
    for number, data in split(DATA, 77_777).items():
        url = (await client.post(f"{path}/{number}")).raise_for_status().json()["upload_url"]
        reply = (await client.put(url, content=data)).raise_for_status()
        found.append({"part_number": number, "etag": reply.headers["etag"].strip('"')})
    (await client.post(f"{path}/complete", json={"parts": found})).raise_for_status()
    assert (await client.get(SIGNER.file_path(name))).content == DATA
    assert (await client.post(f"{path[:-1]}/1")).status_code == 401


async def test_parts_outlive_the_server(parts: Parts, serve: Serve, store: Artifacts) -> None:
    await parts.put(1, b"one")
    second = await serve(make_files_app(store, SIGNER, LIMITS))
    parts.base = parts.base.replace(str(parts.client.base_url), str(second.base_url))
    await parts.put(2, b"two")
    assert (await parts.complete()).status_code == 200
    assert (await second.get(httpx.URL(parts.url).path)).content == b"onetwo"


async def test_unfinished_uploads_can_be_swept(parts: Parts, store: Artifacts) -> None:
    await parts.put(1, b"one")
    kept = [name for name in store.children("uploads-parts") if not name.endswith("-staging")]
    (directory,) = kept
    expires = int(directory.split("-")[0])
    assert 86_000 < expires - time.time() < 86_401
    assert re.fullmatch(r"\d{10}-[0-9a-f]{32}", directory)
    store.delete_prefix(f"uploads-parts/{directory}")
    assert (await parts.complete()).status_code == 400


async def test_uploads_into_a_bucket(
    serve: Serve,
    s3: S3Server,
    tmp_path: Path,
) -> None:
    bucket = Artifacts(f"s3://{s3.new_bucket()}/prefix", NodeDisk(tmp_path, 1 << 30))
    client = await serve(make_files_app(bucket, SIGNER, LIMITS))
    headers = bearer() | {"X-Fal-File-Name": "v.mp4"}
    urls = [(await client.post("/files/upload", content=DATA, headers=headers)).json()["access_url"]]
    parts = Parts(client, bearer())
    await parts.initiate()
    for number, data in split(DATA, 100_000).items():
        await parts.put(number, data)
    assert [(await parts.complete()).status_code for _ in range(2)] == [200, 200]
    for url in [*urls, parts.url]:
        head = await client.head(url)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(DATA)))
        assert head.headers["content-type"] == "video/mp4"
        download = await client.get(url, follow_redirects=True, headers={"Range": "bytes=10-19"})
        assert (download.status_code, download.content) == (206, DATA[10:20])
        assert download.headers["content-type"] == "video/mp4"
    assert bucket.children("uploads-parts") == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    missing = SIGNER.file_path("uploads/0000000000-ab/v.mp4")
    assert (await client.head(missing)).status_code == 404


async def test_a_part_that_is_sent_again_replaces_the_first(
    client: httpx.AsyncClient, store: Artifacts
) -> None:
    """Else one token could fill the disk under one number. The etag of what was replaced does not complete."""
    parts = Parts(client, bearer())
    await parts.initiate()
    for data in (b"first", b"second", b"third"):
        assert (await parts.put(1, data)).status_code == 200
        assert len(whole(store)) == 1
    first, _, third = parts.etags
    assert (await parts.complete({"parts": [first]})).status_code == 400
    assert (await parts.complete({"parts": [third]})).status_code == 200
    assert (await client.get(parts.url)).content == b"third"
