"""Virtual hosts: by host, by prefix and behind a proxy, and the URLs in the replies."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import INPUT, PATH, SUBMIT, ApiHarness

PUBLIC = "https://fal.example.org:8443/birefnet/"


@pytest.mark.parametrize(
    ("base", "path", "public", "queue"),
    [
        ("http://127.0.0.1:8000", SUBMIT, None, "http://127.0.0.1:8000/queue"),
        ("https://fal.example", SUBMIT, None, "https://fal.example/queue"),
        ("http://[::1]:8000", SUBMIT, None, "http://[::1]:8000/queue"),
        ("https://queue.fal.run", PATH, None, "https://queue.fal.run"),
        ("https://QUEUE.fal.example:8443", PATH, None, "https://queue.fal.example:8443"),
        ("https://queue.fal.example", SUBMIT, None, "https://queue.fal.example/queue"),
        ("http://10.0.0.7:8000", SUBMIT, PUBLIC, "https://fal.example.org:8443/birefnet/queue"),
        ("http://queue.fal.run", PATH, PUBLIC, "https://queue.fal.run"),
    ],
)
async def test_urls_have_the_form_that_the_client_used(
    store: SqlJobStore, artifacts: Artifacts, base: str, path: str, public: str | None, queue: str
) -> None:
    harness = ApiHarness(store, artifacts, public_url=public)
    async with harness.client(base_url=base) as client:
        submit = (await client.post(path, json=INPUT)).json()
        url = f"{queue}/fal-ai/birefnet/requests/{submit['request_id']}"
        asked = f"{path.removesuffix('/v2/video')}/requests/{submit['request_id']}/status"
        status = await client.get(asked)
    assert status.status_code == 202
    for body in (submit, status.json()):
        assert body["response_url"] == url
        assert body["status_url"] == url + "/status"
        assert body["cancel_url"] == url + "/cancel"


async def test_the_queue_host_serves_only_the_queue(harness: ApiHarness) -> None:
    async with harness.client(base_url="http://queue.fal.run") as client:
        assert (await client.post("/run" + PATH, json=INPUT)).status_code == 404
        assert (await client.post("/queued" + PATH, json=INPUT)).status_code == 404


@pytest.mark.parametrize("host", ["queues.example", "x.queue.example", "queue", ""])
async def test_other_hosts_serve_synchronous_requests(harness: ApiHarness, host: str) -> None:
    async with harness.runner(), harness.client() as client:
        reply = await client.post(PATH, json=INPUT, headers={"Host": host})
    assert "video" in reply.json()


@pytest.mark.parametrize(
    "host", ["", 'x"><script>', "a b", "evil.example/path?", "user@evil.example", "h:port"]
)
async def test_an_invalid_host_is_not_repeated(harness: ApiHarness, host: str) -> None:
    async with harness.client() as client:
        reply = await client.post(SUBMIT, json=INPUT, headers={"Host": host})
    # The in-process client has no socket: the server's own address is the base URL's.
    assert reply.json()["status_url"].startswith(
        "http://service.example:8000/queue/fal-ai/birefnet/requests/"
    )


async def test_below_a_root_path(harness: ApiHarness) -> None:
    """As behind a server that mounts the application below a path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await harness.app({**scope, "root_path": "/serve"}, receive, send)

    for base, path, queue in (
        ("http://h", "/serve" + SUBMIT, "http://h/serve/queue"),
        ("http://queue.h", "/serve" + PATH, "http://queue.h/serve"),
    ):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            reply = (await client.post(path, json=INPUT)).json()
            assert reply["response_url"] == f"{queue}/fal-ai/birefnet/requests/{reply['request_id']}"
            asked = reply["status_url"].removeprefix(base)
            assert (await client.get(asked)).status_code == 202
