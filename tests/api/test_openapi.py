"""The queue's document in the vendor's form: valid OpenAPI 3.0 that matches the service's replies."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.verifier import Verifier
from serve_app.api.schema import VideoInput
from serve_app.artifacts.store import Artifacts
from serve_app.fal import ENDPOINT_ID, QUEUE_OPENAPI
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import INPUT, PATH, ApiHarness

NAMED = {"endpoint_id": ENDPOINT_ID}
REQUEST = PATH + "/requests/{request_id}"


async def fetch(client: httpx.AsyncClient) -> dict[str, Any]:
    reply = await client.get(QUEUE_OPENAPI, params=NAMED)
    assert reply.status_code == 200 and reply.headers["content-type"] == "application/json"
    body: dict[str, Any] = reply.json()
    return body


def errors_of(document: dict[str, Any], name: str, value: Any) -> list[str]:
    schema = {"components": document["components"], "$ref": f"#/components/schemas/{name}"}
    return [error.message for error in OAS30Validator(schema).iter_errors(value)]


async def test_the_document_is_valid_and_matches_the_vendors(harness: ApiHarness) -> None:
    async with harness.client() as client:
        document = await fetch(client)
    OpenAPIV30SpecValidator(document).validate()
    assert document["openapi"] == "3.0.4"
    assert document["info"]["title"] == f"Queue OpenAPI for {ENDPOINT_ID}"
    assert document["info"]["x-fal-metadata"]["endpointId"] == ENDPOINT_ID
    assert {path: list(item) for path, item in document["paths"].items()} == {
        PATH: ["post"],
        REQUEST: ["get"],
        REQUEST + "/status": ["get"],
        REQUEST + "/cancel": ["put"],
    }
    assert document["security"] == [{"apiKeyAuth": []}]
    key = document["components"]["securitySchemes"]["apiKeyAuth"]
    assert (key["type"], key["in"], key["name"]) == ("apiKey", "header", "Authorization")
    assert document["servers"] == [{"url": "http://service.example:8000/queue"}]

    schemas = document["components"]["schemas"]
    assert set(schemas) >= {"QueueStatus", "BirefnetV2VideoInput", "BirefnetV2VideoOutput", "VideoFile"}
    assert schemas["QueueStatus"]["required"] == ["status", "request_id"]
    video = schemas["BirefnetV2VideoInput"]
    assert video["required"] == ["video_url"]
    assert video["x-fal-order-properties"] == list(VideoInput.model_fields)
    assert video["properties"]["model"]["enum"][0] == video["properties"]["model"]["default"]
    assert len(video["properties"]["model"]["enum"]) == 6
    assert all(field["description"] for field in video["properties"].values())
    assert schemas["VideoFile"]["properties"]["fps"]["anyOf"] == [{"type": "number", "nullable": True}]
    assert schemas["VideoFile"]["x-fal-order-properties"][0] == "url"
    assert schemas["BirefnetV2VideoOutput"]["required"] == ["video"]


async def test_the_document_matches_the_replies(harness: ApiHarness) -> None:
    """Every reply in the lifecycle of a job matches its schema, and the input's schema rejects invalid input."""
    async with harness.client() as client:
        document = await fetch(client)
        queue = document["servers"][0]["url"]
        submit = (await client.post(queue + PATH, json=INPUT)).json()
        path = queue + REQUEST.replace("{request_id}", submit["request_id"])
        waiting = (await client.get(path + "/status", params={"logs": 1})).json()
        async with harness.runner():
            harness.notifier.wake()
            await client.get(path + "/status/stream")
        over = (await client.get(path + "/status", params={"logs": 0})).json()
        output = (await client.get(path)).json()
        other = (await client.post(queue + PATH, json=INPUT)).json()["request_id"]
        cancel = await client.put(queue + REQUEST.replace("{request_id}", other) + "/cancel")
    assert (over["status"], over["logs"]) == ("COMPLETED", None) and waiting["logs"]
    for status in (submit, waiting, over):
        assert errors_of(document, "QueueStatus", status) == []
    assert errors_of(document, "QueueStatus", {"status": "IN_QUEUE"}) != []
    assert errors_of(document, "BirefnetV2VideoOutput", output) == []
    empty = output | {"video": output["video"] | {"fps": None}}
    assert errors_of(document, "BirefnetV2VideoOutput", empty) == []
    assert errors_of(document, "BirefnetV2VideoOutput", {"video": {}}) != []
    assert errors_of(document, "BirefnetV2VideoInput", INPUT) == []
    for wrong in ({}, INPUT | {"model": "x"}, INPUT | {"sync_mode": None}, {"video_url": 1}):
        assert errors_of(document, "BirefnetV2VideoInput", wrong) != []
    responses = document["paths"][REQUEST + "/cancel"]["put"]["responses"]
    (name,) = responses[str(cancel.status_code)]["content"]["application/json"]["schema"].values()
    assert errors_of(document, name.rpartition("/")[2], cancel.json()) == []


@pytest.mark.parametrize(
    ("query", "status"), [({}, 400), ({"endpoint_id": "fal-ai/birefnet"}, 404), ({"endpoint_id": "x/y"}, 404)]
)
async def test_other_endpoints_are_unknown(harness: ApiHarness, query: dict[str, str], status: int) -> None:
    async with harness.client() as client:
        reply = await client.get(QUEUE_OPENAPI, params=query)
    assert reply.status_code == status and ENDPOINT_ID in reply.json()["detail"]


async def test_no_key_is_required(store: SqlJobStore, artifacts: Artifacts) -> None:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0), public_url="https://fal.example/x")
    async with harness.client() as client:
        assert (await fetch(client))["servers"] == [{"url": "https://fal.example/x/queue"}]
    await keys.close()
