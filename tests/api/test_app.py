"""Common to all paths: error shapes, request ids, the OpenAPI document."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.model import Claim
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import IngressSettings
from tests.api.harness import INPUT, PATH, ApiHarness
from tests.jobs.steps import newest


async def test_validation_errors(harness: ApiHarness) -> None:
    async with harness.client() as client:
        for content, types in (
            (b"{", ["json_invalid"]),
            (b"[]", ["dict_type"]),
            (b"[" * 100_000, ["json_invalid"]),
            (b'{"video_url": "x", "model": 1e999}', ["literal_error"]),
            (b'{"video_url": 1' + b"0" * 4000 + b"}", ["string_type"]),
            (b'{"video_url": "x", "video_quality": "\\u0000<\xe2\x82\xac>"}', ["literal_error"]),
            (b"{}", ["missing"]),
            (b'{"model": null, "sync_mode": "x"}', ["missing", "literal_error", "bool_parsing"]),
            (json.dumps(INPUT | {"operating_resolution": "2304x2304"}).encode(), ["feature_not_supported"]),
        ):
            reply = await client.post(PATH, content=content)
            items = reply.json()["detail"]
            assert reply.status_code == 422 and [item["type"] for item in items] == types
            assert "Infinity" not in reply.text
            assert all(item["loc"][0] == "body" and item["msg"] and item["url"] for item in items)
            assert uuid.UUID(reply.headers["x-fal-request-id"])
    assert await newest(harness.store, 1) == []


async def test_a_body_that_is_too_large(store: SqlJobStore, artifacts: Artifacts) -> None:
    harness = ApiHarness(store, artifacts, limits=IngressSettings(max_body_bytes=1000))
    async with harness.client() as client:
        reply = await client.post(PATH, json={"video_url": "data:," + "x" * 1000})
    (item,) = reply.json()["detail"]
    assert (reply.status_code, item["type"], item["ctx"]) == (422, "file_too_large", {"max_size": 1000})


@pytest.mark.parametrize("path", ["/nothing", PATH + "/", PATH + "/stream", "/run", "/files/x"])
async def test_unknown_paths(harness: ApiHarness, path: str) -> None:
    async with harness.client() as client:
        reply = await client.post(path, json=INPUT)
    assert (reply.status_code, reply.json()) == (404, {"detail": f"Path {path} not found"})
    assert uuid.UUID(reply.headers["x-fal-request-id"])


async def test_unknown_methods(harness: ApiHarness) -> None:
    async with harness.client() as client:
        reply = await client.get(PATH)
    assert (reply.status_code, reply.json()) == (405, {"detail": "Method Not Allowed"})
    assert reply.headers["allow"] == "POST" and uuid.UUID(reply.headers["x-fal-request-id"])


async def test_a_bug_answers_500_without_details(harness: ApiHarness) -> None:
    async def work(store: SqlJobStore, claim: Claim) -> object:
        return await store.complete(claim.lease, {"secret": "no result at all"})

    async with harness.runner(work), harness.client() as client:
        reply = await client.post(PATH, json=INPUT)
    assert reply.status_code == 500 and uuid.UUID(reply.headers["x-fal-request-id"])
    assert reply.json()["error_type"] == reply.headers["x-fal-error-type"] == "internal_error"
    assert "KeyError" not in reply.text and "secret" not in reply.text


async def test_request_ids_are_fresh(harness: ApiHarness) -> None:
    async with harness.client() as client:
        ids = {(await client.get("/health")).headers["x-fal-request-id"] for _ in range(5)}
    assert len(ids) == 5


async def test_health(harness: ApiHarness) -> None:
    async with harness.client() as client:
        reply = await client.get("/health")
    assert reply.status_code == 200 and reply.json()["status"] == "ok"


async def test_openapi_describes_the_contract(harness: ApiHarness) -> None:
    async with harness.client() as client:
        document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path in (PATH, "/run" + PATH):
        operation = document["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/VideoInput"}
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": "#/components/schemas/VideoOutput"}
        assert "ModelError" in json.dumps(operation["responses"]["422"])
    fields = schemas["VideoInput"]["properties"]
    assert list(fields) == [
        "video_url",
        "model",
        "operating_resolution",
        "output_mask",
        "refine_foreground",
        "sync_mode",
        "video_output_type",
        "video_quality",
        "video_write_mode",
        "drop_audio",
    ]
    assert fields["drop_audio"]["description"].startswith("Extension")
    assert schemas["VideoInput"]["required"] == ["video_url"]
    assert all(value["description"] for value in fields.values())
    assert set(schemas["VideoFile"]["properties"]) >= {"url", "file_size", "fps", "num_frames"}
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in schemas


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in _references(value)]
    return [ref for value in node for ref in _references(value)] if isinstance(node, list) else []
