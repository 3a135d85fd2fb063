"""The storage routes, and the uploads that follow, as the JavaScript client makes them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import httpx
import pytest

from serve_app.files.signing import Purpose
from tests.api.harness import SIGNER
from tests.api.uploads_harness import DATA, Service, service_fixture  # noqa: F401

CLIP = {"content_type": "video/mp4", "file_name": "clip.mp4"}
KEY = {"Authorization": "Key id:secret"}


@pytest.mark.parametrize("prefix", ["", "/rest"])
async def test_a_token_for_uploads(service: Service, prefix: str) -> None:
    before = datetime.now().astimezone()
    reply = await service.client.post(
        f"{prefix}/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers=KEY
    )
    body = reply.json()
    assert reply.status_code == 200 and set(body) == {"token", "token_type", "base_url", "expires_at"}
    assert (body["token_type"], body["base_url"]) == ("Bearer", service.files)
    assert body["expires_at"].endswith("+00:00")
    expires, second = datetime.fromisoformat(body["expires_at"]) - timedelta(hours=1), timedelta(seconds=1)
    assert before - second <= expires <= datetime.now().astimezone() + second
    assert SIGNER.claims(Purpose.UPLOADS, body["token"])["account"] == KEY["Authorization"]


@pytest.mark.parametrize("prefix", ["", "/rest"])
@pytest.mark.parametrize("storage_type", ["gcs", "fal-cdn-v3"])
async def test_an_announced_upload(service: Service, prefix: str, storage_type: str) -> None:
    path = f"{prefix}/storage/upload/initiate?storage_type={storage_type}"
    target = (await service.client.post(path, json=CLIP, headers=KEY)).json()
    assert set(target) == {"upload_url", "file_url"}
    assert (await service.client.get(target["file_url"])).status_code == 404
    headers = {"Content-Type": "video/mp4"}
    reply = await service.client.put(target["upload_url"], content=DATA, headers=headers)
    assert reply.status_code == 200 and reply.json()
    download = await service.client.get(target["file_url"])
    assert download.content == DATA and download.headers["content-type"] == "video/mp4"
    assert service.names() == [service.name_of(target["file_url"])]


async def test_an_announced_upload_in_parts(service: Service) -> None:
    """The number of a part goes to the end of the URL, whether a client minds the query or not: there is none."""
    path = "/storage/upload/initiate-multipart?storage_type=fal-cdn-v3"
    target = (await service.client.post(path, json=CLIP)).json()
    url = target["upload_url"]
    assert not httpx.URL(url).query
    found = []
    for number, at in enumerate(range(0, len(DATA), 150_000), 1):
        reply = await service.client.put(f"{url}/{number}", content=DATA[at : at + 150_000])
        found.append(reply.json())
    assert [part["partNumber"] for part in found] == [1, 2, 3]
    reply = await service.client.post(f"{url}/complete", json={"parts": found})
    assert reply.status_code == 200 and reply.json()
    assert (await service.client.get(target["file_url"])).content == DATA


@pytest.mark.parametrize(
    ("path", "lifecycle", "seconds"),
    [
        (
            "initiate",
            None,
            3600,
        ),  # the time that the upload may take, which is more than the 1,000 s of the settings
        ("initiate", '{"expiration_duration_seconds": 60}', 3600),
        ("initiate", '{"expiration_duration_seconds": 86400}', 86_400),
        ("initiate", "{broken", 3600),
        ("initiate", '{"expiration_duration_seconds": null}', None),
        ("initiate-multipart", '{"expiration_duration_seconds": 60}', 86_400),
    ],
)
async def test_lifetimes(service: Service, path: str, lifecycle: str | None, seconds: int | None) -> None:
    headers = {} if lifecycle is None else {"X-Fal-Object-Lifecycle": lifecycle}
    before = time.time()
    target = (await service.client.post(f"/storage/upload/{path}", json=CLIP, headers=headers)).json()
    expires = int(service.name_of(target["file_url"]).split("/")[1].split("-")[0])
    if seconds is None:
        assert expires == 0
    else:
        assert before + seconds <= expires <= time.time() + seconds + 1


@pytest.mark.parametrize(
    "path", ["/storage/upload/initiate", "/rest/storage/upload/initiate-multipart", "/tokens/"]
)
async def test_invalid_bodies(service: Service, path: str) -> None:
    fields = ["allowed_apps"] if path == "/tokens/" else ["file_name", "content_type"]
    for content, kinds, places in (
        (b"", ["json_invalid"], [[]]),
        (b"[]", ["dict_type"], [[]]),
        (b"{}", ["missing"] * len(fields), [[field] for field in fields]),
        (b'{"%s": 1}' % fields[0].encode(), None, [[field] for field in fields]),
    ):
        reply = await service.client.post(path, content=content)
        items = reply.json()["detail"]
        assert reply.status_code == 422 and reply.headers["x-fal-request-id"]
        assert [item["loc"] for item in items] == [["body", *place] for place in places]
        assert kinds is None or [item["type"] for item in items] == kinds
        assert all(item["msg"] and item["url"] for item in items)
    reply = await service.client.post(path, content=b"[" * (2 << 20))
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "file_too_large")
    for body in ({"allowed_apps": [1]}, {"allowed_apps": [], "token_expiration": 0}):
        reply = await service.client.post("/tokens/", json=body)
        assert reply.status_code == 422
        assert all(isinstance(part, str) for part in reply.json()["detail"][0]["loc"])


@pytest.mark.parametrize("prefix", ["", "/rest"])
async def test_a_token_that_replaces_the_key(service: Service, prefix: str) -> None:
    body = {"allowed_apps": ["birefnet"], "token_expiration": 120}
    before = time.time()
    reply = await service.client.post(f"{prefix}/tokens/", json=body, headers=KEY)
    claims = SIGNER.claims(Purpose.APP, reply.json())
    assert (claims["account"], claims["apps"]) == (KEY["Authorization"], ["birefnet"])
    assert before + 119 <= claims["exp"] <= time.time() + 120


async def test_tokens_are_refused_elsewhere(service: Service) -> None:
    target = (await service.client.post("/storage/upload/initiate", json=CLIP)).json()
    put = httpx.URL(target["upload_url"]).params["token"]
    app = (await service.client.post("/tokens/", json={"allowed_apps": []})).json()
    for token in (put, app):
        headers = {"Authorization": f"Bearer {token}"}
        assert (
            await service.client.post(f"{service.files}/files/upload", headers=headers)
        ).status_code == 401
    reply = await service.client.put(f"{service.files}/files/upload/multipart/{put}/1", content=b"x")
    assert reply.status_code == 401
    assert service.names() == []
