"""The request history and the deletion of payloads, for accounts and for admin keys."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from serve_app.accounts.keys import KeyTable, NewKey
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.fal import ENDPOINT_ID
from serve_app.jobs.model import Claim, NewJob
from serve_app.jobs.names import JobNames, outputs_of
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.protocols import MediaFile
from tests.api.harness import FILE, INPUT, MEDIA, SIGNER, SUBMIT, ApiHarness, submitted

HISTORY = "/v1/models/requests/by-endpoint"
UNKNOWN_ID = str(uuid.uuid4())


async def history(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    reply = await client.get(HISTORY, params={"endpoint_id": ENDPOINT_ID, **query})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


async def job(client: httpx.AsyncClient, **options: Any) -> str:
    return (await submitted(client, **options)).rpartition("/")[2]


def payloads(job_id: str) -> str:
    return f"/v1/models/requests/{job_id}/payloads"


@dataclass
class OutputWriter:
    """A runner's work that writes two real output files."""

    artifacts: Artifacts
    inline: bool = False

    def names(self, claim: Claim) -> tuple[str, str]:
        names = JobNames(claim.job.id, claim.lease.token)
        return names.output("output", "mp4"), names.output("mask", "mp4")

    async def __call__(self, store: SqlJobStore, claim: Claim) -> object:
        files: list[MediaFile] = []
        for name in self.names(claim):
            self.artifacts.put_bytes(name, b"video", final=True)
            files.append(replace(MEDIA, name=name))
        return await store.complete(claim.lease, JobResult(*files, inline=self.inline).as_json())


async def test_the_fields_of_an_item(harness: ApiHarness) -> None:
    async with harness.client() as client:
        async with harness.runner():
            reply = await client.post("/run/" + ENDPOINT_ID, json=INPUT | {"video_quality": "low"})
        bad = await job(client, json={"video_quality": "ultra"})
        waiting = await job(client)
        body = await history(client)
        assert [item["request_id"] for item in body["items"]] == [
            waiting,
            bad,
            reply.headers["x-fal-request-id"],
        ]
        assert (body["next_cursor"], body["has_more"]) == (None, False)
        queued, failed, done = body["items"]
        assert all(item["endpoint_id"] == ENDPOINT_ID for item in body["items"])
        assert all(item["json_input"] is item["json_output"] is None for item in body["items"])
        assert [queued[name] for name in ("started_at", "ended_at", "status_code", "duration")] == [None] * 4
        assert (failed["status_code"], failed["started_at"]) == (422, None) and failed["ended_at"]
        assert done["status_code"] == 200 and 0 <= done["duration"] < 60
        assert done["sent_at"] <= done["started_at"] <= done["ended_at"]
        assert done["sent_at"].endswith("+00:00")

        queued, failed, done = (await history(client, expand="payloads"))["items"]
        assert (queued["json_input"], queued["json_output"]) == (INPUT, None)
        assert failed["json_input"] == {"video_quality": "ultra"}
        assert [item["type"] for item in failed["json_output"]["detail"]] == ["missing", "literal_error"]
        assert done["json_input"] == INPUT | {"video_quality": "low"}
        assert done["json_output"] == reply.json()
        assert done["json_output"]["video"]["url"] == f"http://service.example:8001{FILE}"


async def test_inline_results_are_not_in_the_history(harness: ApiHarness) -> None:
    async with harness.client() as client, harness.runner(OutputWriter(harness.artifacts, inline=True)):
        address = await submitted(client, json=INPUT | {"sync_mode": True})

        async def item() -> dict[str, Any]:
            (found,) = (await history(client, expand="payloads"))["items"]
            return dict(found)

        while (await item())["status_code"] is None:
            assert (await client.get(address + "/status/stream")).status_code == 200
        assert (await item())["json_input"] is (await item())["json_output"] is None
        assert "data:" in (await client.get(address)).text


async def test_pages(harness: ApiHarness) -> None:
    async with harness.client() as client:
        ids = [await job(client) for _ in range(5)]
        found: list[str] = []
        cursor: dict[str, str] = {}
        for length, more in ((2, True), (2, True), (1, False)):
            body = await history(client, limit=2, **cursor)
            assert (len(body["items"]), body["has_more"]) == (length, more)
            found += [item["request_id"] for item in body["items"]]
            cursor = {"cursor": body["next_cursor"]}
        assert (found, cursor) == (ids[::-1], {"cursor": None})
        assert [item["request_id"] for item in (await history(client, request_id=ids[1]))["items"]] == [
            ids[1]
        ]
        assert len((await history(client, limit=5, expand="payloads"))["items"]) == 5


async def test_a_page_with_payloads_is_shorter(harness: ApiHarness) -> None:
    for number in range(101):
        await harness.store.insert(NewJob(f"job-{number}", {}))
    async with harness.client() as client:
        light = await history(client, limit=1000)
        heavy = await history(client, limit=1000, expand="payloads")
    assert (len(light["items"]), light["has_more"]) == (101, False)
    assert (len(heavy["items"]), heavy["has_more"]) == (100, True)


async def test_filters(harness: ApiHarness) -> None:
    async with harness.client() as client:
        bad = await job(client, json={})
        good = await job(client)
        async with harness.runner():
            harness.notifier.wake()
            await client.get(f"/queue/fal-ai/birefnet/requests/{good}/status/stream")
        lost = await job(client)

        async def ids(**query: str) -> list[str]:
            return [item["request_id"] for item in (await history(client, **query))["items"]]

        assert await ids(status="success") == [good]
        assert await ids(status="user_error") == [bad]
        assert await ids(status="error") == []
        (first, *_, last) = (await history(client))["items"]
        assert await ids(start="2020-01-01", end="2020-01-02T00:00:00Z") == []
        assert await ids(start="2020-01-01T00:00:00+02:00", end=first["sent_at"]) in ([good, bad], [bad])
        assert await ids(start=last["sent_at"]) == [lost, good, bad]


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({}, 400, "endpoint_id"),
        ({"endpoint_id": ""}, 400, "endpoint_id"),
        ({"endpoint_id": "fal-ai/flux/dev"}, 404, "fal-ai/flux/dev"),
        ({"endpoint_id": f"fal-ai/flux/dev,{ENDPOINT_ID}"}, 200, "items"),
        ({"endpoint_id": ["fal-ai/flux/dev", ENDPOINT_ID]}, 200, "items"),
        ({"limit": "0"}, 400, "limit"),
        ({"limit": "1001"}, 400, "limit"),
        ({"limit": "99999"}, 400, "limit"),
        ({"limit": "²"}, 400, "limit"),
        ({"cursor": "x"}, 400, "cursor"),
        ({"cursor": "9" * 30}, 400, "cursor"),
        ({"start": "yesterday"}, 400, "start"),
        ({"end": "2026-13-01"}, 400, "end"),
        ({"start": "0001-01-01T00:00:00+14:00", "end": "9999-12-31T23:59:59-14:00"}, 200, "items"),
        ({"status": "COMPLETED"}, 400, "status"),
        ({"request_id": "\0"}, 400, "request_id"),
        ({"expand": "everything"}, 200, "items"),
    ],
)
async def test_queries(harness: ApiHarness, query: dict[str, Any], status: int, text: str) -> None:
    named = {} if "endpoint_id" in query or not query else {"endpoint_id": ENDPOINT_ID}
    async with harness.client() as client:
        reply = await client.get(HISTORY, params=named | query)
    assert reply.status_code == status and text in reply.text
    assert len(reply.headers["x-fal-request-id"]) == 36


async def test_the_vendors_host(harness: ApiHarness) -> None:
    async with harness.client(base_url="https://api.fal.ai") as client:
        assert (await history(client))["items"] == []


async def test_payloads_and_outputs_are_deleted(harness: ApiHarness) -> None:
    harness.artifacts.put_bytes("uploads/input.mp4", b"input")
    async with harness.client() as client, harness.runner(OutputWriter(harness.artifacts)) as claims:
        address = await submitted(client)
        job_id = address.rpartition("/")[2]
        await client.get(address + "/status/stream")
        output, mask = OutputWriter(harness.artifacts).names(claims[0])
        assert harness.artifacts.exists(output) and harness.artifacts.exists(mask)

        reply = await client.delete(payloads(job_id), headers={"Idempotency-Key": "k"})
        links = [f"http://service.example:8001{SIGNER.file_path(name)}" for name in (output, mask)]
        assert (reply.status_code, reply.json()) == (
            200,
            {"cdn_delete_results": [{"link": link, "exception": None} for link in links]},
        )
        assert reply.headers["x-fal-request-id"] == job_id
        assert not harness.artifacts.exists(output) and not harness.artifacts.exists(mask)
        assert harness.artifacts.exists("uploads/input.mp4")
        assert (await client.get(address)).status_code == 404
        assert (await client.get(address + "/status")).json()["status"] == "COMPLETED"
        (item,) = (await history(client, expand="payloads"))["items"]
        assert (item["status_code"], item["json_input"], item["json_output"]) == (200, None, None)
        again = await client.delete(payloads(job_id))
        assert (again.status_code, again.json()) == (200, {"cdn_delete_results": []})


async def test_a_failed_request_keeps_its_error_and_loses_its_input(harness: ApiHarness) -> None:
    async with harness.client() as client:
        address = await submitted(client, json={"video_url": "x", "model": "my secret"})
        assert "my secret" in (await client.get(address)).text
        reply = await client.delete(payloads(address.rpartition("/")[2]))
        assert (reply.status_code, reply.json()) == (200, {"cdn_delete_results": []})
        result = await client.get(address)
        assert result.status_code == 422 and result.json()["detail"][0]["loc"] == ["body", "model"]
        assert "my secret" not in result.text
        assert "my secret" not in str(await history(client, expand="payloads"))


async def test_a_failed_deletion_can_be_repeated(harness: ApiHarness) -> None:
    async with harness.client() as client, harness.runner(OutputWriter(harness.artifacts)):
        address = await submitted(client)
        job_id = address.rpartition("/")[2]
        await client.get(address + "/status/stream")
        # Directories behind a symbolic link are not deleted.
        outputs = harness.artifacts.root / outputs_of(job_id)
        outputs.rename(kept := harness.artifacts.root / "kept")
        outputs.symlink_to(kept)
        reply = await client.delete(payloads(job_id))
        (output, mask) = reply.json()["cdn_delete_results"]
        assert reply.status_code == 200 and output["exception"] and mask["exception"]
        assert (await client.get(address)).status_code == 200
        outputs.unlink()
        kept.rename(outputs)
        again = (await client.delete(payloads(job_id))).json()["cdn_delete_results"]
        assert again == [{"link": file["link"], "exception": None} for file in (output, mask)]
        assert (await client.get(address)).status_code == 404


async def test_payloads_that_cannot_be_deleted(harness: ApiHarness) -> None:
    async with harness.client() as client:
        for unknown in (UNKNOWN_ID, "x", "%00"):
            reply = await client.delete(payloads(unknown))
            assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})
        job_id = await job(client)
        for _ in range(2):
            reply = await client.delete(payloads(job_id))
            assert reply.status_code == 409 and "not ended" in reply.json()["detail"]
            await harness.store.claim("runner", 60.0, 1)
        assert (await history(client, expand="payloads"))["items"][0]["json_input"] == INPUT
        await harness.store.request_cancel(job_id)
        assert (await client.delete(payloads(job_id))).json() == {"cdn_delete_results": []}


@dataclass
class Accounts:
    """An application that requires keys."""

    client: httpx.AsyncClient
    keys: KeyTable

    async def ask(self, key: NewKey, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Key {key.text}"}
        return await self.client.request(method, path, headers=headers, **options)


@pytest_asyncio.fixture
async def accounts(store: SqlJobStore, artifacts: Artifacts) -> AsyncIterator[Accounts]:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0))
    async with harness.client() as client:
        yield Accounts(client, keys)
    await keys.close()


async def test_accounts_see_their_own_requests_and_admin_keys_delete(accounts: Accounts) -> None:
    user = await accounts.keys.create("laptop")
    admin = await accounts.keys.create("server", user.key.account, admin=True)
    other = await accounts.keys.create("stranger", admin=True)
    job_id = (await accounts.ask(user, "POST", SUBMIT, json={})).json()["request_id"]
    query = {"endpoint_id": ENDPOINT_ID}
    for key, count in ((user, 1), (admin, 1), (other, 0)):
        items = (await accounts.ask(key, "GET", HISTORY, params=query)).json()["items"]
        assert len(items) == count
    assert (await accounts.client.get(HISTORY, params=query)).status_code == 401
    assert (await accounts.client.delete(payloads(job_id))).status_code == 401
    refused = await accounts.ask(user, "DELETE", payloads(job_id))
    assert refused.status_code == 403 and "admin" in refused.json()["detail"]
    assert (await accounts.ask(user, "DELETE", payloads(UNKNOWN_ID))).status_code == 404
    assert (await accounts.ask(other, "DELETE", payloads(job_id))).status_code == 404
    assert (await accounts.ask(admin, "DELETE", payloads(job_id))).status_code == 200
