"""The history of requests, page by page and filtered."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sqlalchemy import update

from serve_app.database.tables import jobs
from serve_app.fal import ENDPOINT_ID
from serve_app.jobs.model import NewJob
from tests.api.harness import FILE, INPUT, ApiHarness, submitted
from tests.api.history_harness import HISTORY, WritesTwoFiles, history, job


async def test_the_fields_of_an_item(harness: ApiHarness) -> None:
    async with harness.client() as client:
        async with harness.runner():
            reply = await client.post("/run/" + ENDPOINT_ID, json=INPUT | {"video_quality": "low"})
        invalid = await job(client, json={"video_quality": "ultra"})
        waiting = await job(client)
        body = await history(client)
        assert [item["request_id"] for item in body["items"]] == [
            waiting,
            invalid,
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


async def test_results_that_are_given_once_are_not_given_here(harness: ApiHarness) -> None:
    async with harness.client() as client, harness.runner(WritesTwoFiles(harness.artifacts, inline=True)):
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
        cursor: dict[str, str | None] = {}
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


async def sent(harness: ApiHarness, job_id: str, at: float) -> None:
    """Let a request have been sent at another time, in seconds since 1970."""
    async with harness.store._database.writing() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job_id).values(created_at=at))


async def test_filters(harness: ApiHarness) -> None:
    async with harness.client() as client:
        invalid = await job(client, json={})
        good = await job(client)
        async with harness.runner():
            harness.notifier.wake()
            await client.get(f"/queue/fal-ai/birefnet/requests/{good}/status/stream")
        lost = await job(client)
        for number, job_id in enumerate((invalid, good, lost)):
            await sent(harness, job_id, 1_700_000_000.0 + number)

        async def ids(**query: str) -> list[str]:
            return [item["request_id"] for item in (await history(client, **query))["items"]]

        assert await ids(status="success") == [good]
        assert await ids(status="user_error") == [invalid]
        assert await ids(status="error") == []
        assert await ids(start="2023-11-14T22:13:21Z") == [lost, good]
        assert await ids(start="2023-11-15T00:13:20+02:00", end="2023-11-14T22:13:22Z") == [good, invalid]
        assert await ids(start="2020-01-01", end="2020-01-02T00:00:00Z") == []


WHOLE = 1_700_000_000.123


@pytest.mark.parametrize(
    "at", [WHOLE, math.nextafter(WHOLE, 0), math.nextafter(WHOLE, 2e9), WHOLE + 2e-5, WHOLE - 2e-5, 1.7e9]
)
async def test_the_time_of_a_request_as_start_includes_it_and_as_end_does_not(
    harness: ApiHarness, at: float
) -> None:
    """Whatever the table knows of its time below the milliseconds that are shown."""
    async with harness.client() as client:
        job_id = await job(client)
        await sent(harness, job_id, at)
        shown = (await history(client))["items"][0]["sent_at"]
        assert [item["request_id"] for item in (await history(client, start=shown))["items"]] == [job_id]
        assert (await history(client, end=shown))["items"] == []


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
