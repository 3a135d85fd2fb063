"""The OpenAPI document against the application: 2,000 generated requests, and only documented replies.

`SCHEMATHESIS_SEED=1234` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_app.artifacts.store import Artifacts
from serve_app.errors import DownloadFailed, to_wire
from serve_app.fal import CLIENT_PROXY, JWKS_PATHS, QUEUE_OPENAPI
from serve_app.files.http_server import HttpServer
from serve_app.jobs.model import Claim, NewJob
from serve_app.jobs.request import JobResult
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import MEDIA, ApiHarness
from tests.waiting import PATIENCE_S, until

EXAMPLES = 2000
SEED = int(os.environ["SCHEMATHESIS_SEED"])
FIXED = ("/health", QUEUE_OPENAPI, *JWKS_PATHS)  # all valid requests are alike
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Service:
    """A service with jobs in every lasting state. `running`: one for each form of the path, to be cancelled."""

    url: str
    over: list[str]
    running: list[str]


async def finish(store: SqlJobStore, claim: Claim) -> object:
    """Fails every fifth job and completes the others, except the second and the third, which stay running."""
    if claim.job.number in (2, 3):
        return None
    if claim.job.number % 5 == 0:
        return await store.fail(claim.lease, to_wire(DownloadFailed("the server answered 404")))
    mask = MEDIA if claim.job.number % 2 else None
    return await store.complete(claim.lease, JobResult(MEDIA, mask).as_json())


async def expire(store: SqlJobStore) -> None:
    """Expires start deadlines: generated ones can be as short as a tenth of a second."""
    while True:
        await store.expire_waiting()
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Iterator[Service]:
    """Serves from a separate thread, as the request generator has no event loop."""
    directory = tmp_path_factory.mktemp("service")
    found: list[Service] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        path = directory / "jobs.db"
        path.write_bytes(empty_table.read_bytes())
        store = SqlJobStore(f"sqlite:///{path}")
        await store.open()
        harness = ApiHarness(store, Artifacts(directory / "artifacts"))
        server = HttpServer(harness.app, "127.0.0.1", 0, drain_s=1)
        await server.start()
        expiry = asyncio.create_task(expire(store))
        async with harness.runner(finish):
            jobs = [
                await store.insert(NewJob(f"{number:08d}-0000-4000-8000-000000000000", {}))
                for number in range(6)
            ]
            await store.request_cancel(jobs[3].id)
            harness.notifier.wake()

            async def over() -> bool:
                return await store.unfinished([job.id for job in jobs]) == {jobs[1].id, jobs[2].id}

            await until(over)
            ids = [job.id for job in jobs]
            found.append(Service(f"http://127.0.0.1:{server.port}", ids[:1] + ids[3:], ids[1:3]))
            ready.set()
            await asyncio.to_thread(done.wait)
        expiry.cancel()
        await asyncio.gather(expiry, return_exceptions=True)
        await server.stop()
        await store.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(PATIENCE_S)
    yield found[0]
    done.set()
    thread.join()


@pytest.mark.long
def test_replies_match_the_document(service: Service) -> None:
    schema = schemathesis.openapi.from_url(service.url + "/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == sum(1 for _ in schema.get_all_operations())
    free = [operation for operation in operations if operation.path not in FIXED]
    each = -(-EXAMPLES // len(free))
    seen: dict[str, Counter[int]] = {}
    with requests.Session() as session:
        for operation in operations:
            seen[operation.label] = exercise(operation, each, service, session)
    print("\n".join(f"{label}: {dict(sorted(counts.items()))}" for label, counts in seen.items()))
    assert sum(counts.total() for counts in seen.values()) >= EXAMPLES
    # Every operation was also exercised successfully, except the proxy: a generated URL is no valid target.
    assert all(counts.keys() & {200, 202} for label, counts in seen.items() if CLIENT_PROXY not in label)


def exercise(
    operation: APIOperation[Any, Any, Any, Any], examples: int, service: Service, session: requests.Session
) -> Counter[int]:
    """Makes `examples` requests and counts the statuses of the replies."""
    counts: Counter[int] = Counter()
    cases = operation.as_strategy(GenerationMode.POSITIVE)
    if operation.body:
        cases |= operation.as_strategy(GenerationMode.NEGATIVE)
    names: st.SearchStrategy[str | None] = st.none()
    if operation.path_parameters:
        known = [*service.over]
        if "stream" not in operation.path:  # the stream of a running job would not end
            known.append(service.running["v2" in operation.path])
        names |= st.sampled_from(known) | st.text(st.characters(exclude_characters="/."), min_size=1)

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases, name=names)
    def check(case: schemathesis.Case[Any], name: str | None) -> None:
        if name is not None:
            case.path_parameters["request_id"] = quote(name, safe="")
        reply = case.call(session=session, timeout=PATIENCE_S)
        counts[reply.status_code] += 1
        assert reply.status_code < 500 or (reply.status_code, operation.method) == (504, "post")
        assert reply.headers["x-fal-request-id"] and reply.headers["server-timing"]
        case.validate_response(reply, checks=CHECKS)

    check()
    return counts
