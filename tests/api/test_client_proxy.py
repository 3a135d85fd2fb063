"""The clients' proxy mode: all their targets and no others, with the target's replies and authentication."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.verifier import Verifier
from serve_app.api.routes.client_proxy import TARGET
from serve_app.artifacts.store import Artifacts
from serve_app.fal import CLIENT_PROXY
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import APP, INPUT, PATH, ApiHarness, only_job
from tests.jobs.steps import newest

QUEUE = "https://queue.fal.run"
RUN = "https://fal.run"
REST = "https://rest.fal.ai"


async def ask(
    client: httpx.AsyncClient, method: str, target: str, status: int, **options: Any
) -> httpx.Response:
    headers = {TARGET: target, **options.pop("headers", {})}
    reply = await client.request(method, CLIENT_PROXY, headers=headers, **options)
    assert reply.status_code == status, reply.text
    assert len(reply.headers.get_list("x-fal-request-id")) == 1
    assert len(reply.headers.get_list("server-timing")) == 1
    return reply


async def test_the_lifecycle_of_a_queued_job(harness: ApiHarness) -> None:
    async with harness.client() as client:
        body = (await ask(client, "POST", QUEUE + PATH, 200, json=INPUT)).json()
        request = f"{QUEUE}{APP}/requests/{body['request_id']}"
        reply = await ask(client, "GET", request + "/status?logs=1", 202)
        assert reply.headers["x-fal-request-id"] == body["request_id"]
        assert [line["message"] for line in reply.json()["logs"]] == ["queued"]
        # The URLs of the submit also work without the proxy.
        assert (await client.get(body["status_url"])).status_code == 202
        assert (await ask(client, "GET", request, 400)).json() == {"detail": "Request is still in progress"}
        async with harness.runner():
            harness.notifier.wake()
            reply = await ask(client, "GET", request + "/status/stream?logs=1", 200)
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
        assert events[-1]["status"] == "COMPLETED"
        assert "video" in (await ask(client, "GET", request, 200)).json()
        assert (await ask(client, "PUT", request + "/cancel", 400)).json() == {"status": "ALREADY_COMPLETED"}


async def test_run_and_uploads(harness: ApiHarness) -> None:
    async with harness.runner(), harness.client() as client:
        reply = await ask(client, "POST", RUN + PATH, 200, json=INPUT)
        assert reply.headers["x-fal-request-id"] == (await only_job(harness.store)).id
        initiate = f"{REST}/storage/upload/initiate?storage_type=fal-cdn-v3"
        file = {"content_type": "video/mp4", "file_name": "clip.mp4"}
        assert "upload_url" in (await ask(client, "POST", initiate, 200, json=file)).json()


async def test_headers_and_query_are_those_of_the_target(harness: ApiHarness) -> None:
    async with harness.client() as client:
        target = QUEUE + PATH + "?fal_max_queue_length=5"
        options: dict[str, Any] = {"params": {"fal_max_queue_length": "nonsense"}, "json": INPUT}
        await ask(client, "POST", target, 200, headers={"x-fal-no-retry": "1"}, **options)
        assert not (await only_job(harness.store)).retry
        reply = await ask(
            client, "POST", QUEUE + PATH, 400, headers={"x-fal-request-timeout": "x"}, json=INPUT
        )
    assert reply.headers["x-fal-error-type"] == "bad_request"


@pytest.mark.parametrize(
    ("method", "target", "status", "body"),
    [
        ("GET", f"{QUEUE}{APP}/requests/{uuid.UUID(int=0)}", 404, {"status": "NOT_FOUND"}),
        ("GET", QUEUE + PATH, 405, {"detail": "Method Not Allowed"}),
        ("POST", f"{RUN}{PATH}/stream", 404, {"detail": f"Path /run{PATH}/stream not found"}),
        ("POST", f"{RUN}/a%20b", 404, {"detail": "Path /run/a b not found"}),
        ("POST", RUN, 404, {"detail": "Path /run not found"}),
        ("GET", f"{RUN}/../health", 404, {"detail": "Path /run/../health not found"}),
        ("GET", f"{RUN}/health", 404, {"detail": "Path /run/health not found"}),
        ("GET", f"{RUN}{CLIENT_PROXY}", 404, {"detail": f"Path /run{CLIENT_PROXY} not found"}),
    ],
)
async def test_errors_are_those_of_the_target(
    harness: ApiHarness, method: str, target: str, status: int, body: Any
) -> None:
    async with harness.client() as client:
        assert (await ask(client, method, target, status)).json() == body


@pytest.mark.parametrize(
    "target",
    [
        "",
        PATH,
        f"https://evil.example{PATH}",
        f"https://queue.fal.run.evil.example{PATH}",
        f"https://queue.fal.run:8443{PATH}",
        f"https://user@queue.fal.run{PATH}",
        f"https://evil.example/@queue.fal.run{PATH}",
        f"http://queue.fal.run{PATH}",
        f"file://queue.fal.run{PATH}",
        f"//queue.fal.run{PATH}",
        "https://[queue.fal.run/",
        "https://quéue.fal.run/",
    ],
)
async def test_other_targets_are_refused(harness: ApiHarness, target: str) -> None:
    async with harness.client() as client:
        reply = await client.post(CLIENT_PROXY, json=INPUT, headers={TARGET.encode(): target.encode()})
        none = await client.post(CLIENT_PROXY, json=INPUT)
    for refused, reason in ((reply, "names no URL"), (none, "is missing")):
        assert refused.status_code == 400
        assert refused.headers["x-fal-error-type"] == refused.json()["error_type"] == "bad_request"
        assert reason in refused.json()["detail"] and "https://queue.fal.run/" in refused.json()["detail"]
        assert len(refused.headers.get_list("x-fal-request-id")) == 1
    assert await newest(harness.store, 1) == []


async def test_other_methods_are_refused(harness: ApiHarness) -> None:
    async with harness.client() as client:
        assert (await client.delete(CLIENT_PROXY)).status_code == 405


async def test_the_target_determines_whether_a_key_is_required(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0))
    key = await keys.create("browser")
    await keys.close()
    async with harness.client() as client:
        await ask(client, "POST", QUEUE + PATH, 401, json=INPUT)
        await ask(client, "POST", "https://evil.example/", 401, json=INPUT)
        assert await newest(store, 1) == []
        headers = {"Authorization": f"Key {key.text}"}
        await ask(client, "POST", QUEUE + PATH, 200, json=INPUT, headers=headers)
        assert (await only_job(store)).account == key.key.account
        assert "keys" in (await ask(client, "GET", f"{REST}/.well-known/jwks.json", 200)).json()


async def test_below_a_root_path(harness: ApiHarness) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await harness.app({**scope, "root_path": "/serve"}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as client:
        reply = await client.post("/serve" + CLIENT_PROXY, json=INPUT, headers={TARGET: QUEUE + PATH})
        assert reply.json()["status_url"].startswith(f"http://h/serve/queue{APP}/requests/")
