"""What a request said and made is removed on demand, and who may ask for that."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from serve_app.accounts.keys import KeyTable, NewKey
from serve_app.accounts.verifier import Verifier
from serve_app.artifacts.store import Artifacts
from serve_app.fal import ENDPOINT_ID
from serve_app.jobs.names import outputs_of
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import INPUT, SIGNER, SUBMIT, ApiHarness, submitted
from tests.api.history_harness import HISTORY, WritesTwoFiles, history, job

UNKNOWN_ID = str(uuid.uuid4())


def payloads(job_id: str) -> str:
    return f"/v1/models/requests/{job_id}/payloads"


async def test_payloads_and_outputs_are_removed(harness: ApiHarness) -> None:
    harness.artifacts.put_bytes("uploads/input.mp4", b"input")
    async with harness.client() as client, harness.runner(WritesTwoFiles(harness.artifacts)) as claims:
        address = await submitted(client)
        job_id = address.rpartition("/")[2]
        await client.get(address + "/status/stream")
        output, mask = WritesTwoFiles(harness.artifacts).names(claims[0])
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


async def test_files_that_stay_can_be_asked_for_again(harness: ApiHarness) -> None:
    async with harness.client() as client, harness.runner(WritesTwoFiles(harness.artifacts)):
        address = await submitted(client)
        job_id = address.rpartition("/")[2]
        await client.get(address + "/status/stream")
        # What is reached by a link is not deleted.
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


async def test_what_cannot_be_removed(harness: ApiHarness) -> None:
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
    """An application that wants keys."""

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


async def test_accounts_see_their_own_and_administrators_remove(accounts: Accounts) -> None:
    user = await accounts.keys.create("laptop")
    admin = await accounts.keys.create("office", user.key.account, admin=True)
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
