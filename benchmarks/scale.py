"""One video on 1, 2, 4 and 8 segmenters, and a short job beside a long one.

    python -m benchmarks.scale

The segmenter sleeps for a set time per frame, so that this machine can hold eight, and the pictures are tiny, so that
the processor is not the limit: what is measured is how well the runner keeps segmenters busy. The slowest stage is the
segmenters' sleep, shared by the replicas without a remainder. Other work on the machine makes every figure worse: the
share of the processor that was busy is beside each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.pipeline import ROOT, service_cpu
from benchmarks.tables import SCALE
from serve_app.cli.client import served
from serve_app.fal import ENDPOINT
from serve_app.local.profile import Profile, free_port
from serve_app.local.service import running
from serve_app.settings import Scale, SegmenterSettings
from tests.cluster.light import FRAME_S

WIDTH, HEIGHT = 64, 48
LONG, SHORT = 1536, 48
REPLICAS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Timed:
    """wall: seconds. own, machine: the share of all cores that the service used, and that was busy at all."""

    wall: float
    own: float
    machine: float


def drawn(path: Path, frames: int) -> Path:
    """A film of a moving gradient, with a keyframe every 24 frames."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "24"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = np.stack([x * 3 + number, y * 5, x + y], -1).astype(np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode(None))
    return path


def busy() -> tuple[float, float]:
    """(busy, all) seconds of all cores since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / 100, sum(fields) / 100


def timed(work: Callable[[], None]) -> Timed:
    wall, own, (worked, passed) = time.perf_counter(), service_cpu(os.getpid()), busy()
    work()
    wall = time.perf_counter() - wall
    worked, passed = (after - before for after, before in zip(busy(), (worked, passed), strict=True))
    return Timed(wall, (service_cpu(os.getpid()) - own) / (wall * (os.cpu_count() or 1)), worked / passed)


def profile_of(replicas: int, directory: Path) -> Profile:
    """The local profile with so many sleeping segmenters of the model that it keeps loaded."""
    engine = SegmenterSettings(
        engine="tests.cluster.light:make_engine",
        num_cpus=0.01,
        scale=Scale(min_replicas=replicas, max_replicas=replicas),
    )
    profile = Profile.load(
        ROOT / "config" / "local.yaml",
        free_port(),
        data_dir=directory / "data",
        files={"port": free_port()},
    )
    segmenters = {profile.settings.warm: engine}
    settings = profile.settings.model_copy(update={"segmenters": segmenters})
    return Profile(profile.host, profile.port, profile.name, settings)


def body_of(source: str) -> dict[str, Any]:
    return {"video_url": source, "video_output_type": "X264 (.mp4)", "refine_foreground": False}


def post(profile: Profile, source: str) -> None:
    reply = httpx.post(profile.url + ENDPOINT, json=body_of(source), timeout=None, trust_env=False)
    assert reply.status_code == 200, reply.text


def beside(profile: Profile, long: str, short: str) -> Timed:
    """The mean of short jobs, sent while the long one is being computed.

    Its chunks end together and a short job's wait depends on when, so they are sent at different times after one ends.
    """
    other = httpx.post(f"{profile.url}/queue{ENDPOINT}", json=body_of(long), trust_env=False).json()
    while httpx.get(other["status_url"], trust_env=False).json()["status"] == "IN_QUEUE":
        time.sleep(0.1)
    time.sleep(1)  # past its start; it takes at least eleven seconds
    made = []
    for pause in (0.0, 0.5, 1.0):
        time.sleep(pause)
        made.append(timed(lambda: post(profile, short)))
    status = httpx.get(other["status_url"], trust_env=False).json()["status"]
    assert status == "IN_PROGRESS", f"the long job is {status}, so the short one was not beside it"
    httpx.put(other["cancel_url"], trust_env=False).raise_for_status()
    return Timed(*(sum(values) / len(values) for values in zip(*map(astuple, made), strict=True)))


def row(what: str, replicas: int, frames: int, made: Timed, frame_s: float) -> Row:
    """A line of the table. ideal: the time of the slowest stage over the measured one."""
    chunks = -(-frames // 24)
    stage = -(-chunks // replicas) * frames / chunks * frame_s
    return {
        "what": what,
        "replicas": replicas,
        "frames": frames,
        "seconds": made.wall,
        "fps": frames / made.wall,
        "of_stage": stage / made.wall,
        "own_cpu": made.own,
        "machine_cpu": made.machine,
    }


def measured(replicas: int, repeats: int, frame_s: float) -> list[Row]:
    """The best of `repeats` for each line, as other work only ever adds to it. In a process of its own."""
    os.environ[FRAME_S] = str(frame_s)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        return rows_of(profile_of(replicas, Path(name)), replicas, repeats, frame_s, Path(name))


def rows_of(profile: Profile, replicas: int, repeats: int, frame_s: float, directory: Path) -> list[Row]:
    with (
        served(drawn(directory / "long.mp4", LONG)) as long,
        served(drawn(directory / "short.mp4", SHORT)) as short,
        running(profile),
    ):
        post(profile, short)  # warm
        runs: dict[tuple[str, int], Callable[[], Timed]] = {
            ("one long job", LONG): lambda: timed(lambda: post(profile, long)),
            ("a short job alone", SHORT): lambda: timed(lambda: post(profile, short)),
            ("a short job beside a long one", SHORT): lambda: beside(profile, long, short),
        }
        rows = []
        for (what, frames), run in runs.items():
            best = min((run() for _ in range(repeats)), key=lambda made: made.wall)
            rows.append(row(what, replicas, frames, best, frame_s))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", choices=REPLICAS, default=REPLICAS)
    parser.add_argument("--frame-ms", type=float, default=60.0, help="sleep of the segmenter per frame")
    parser.add_argument("--repeats", type=int, default=1)
    add_out(parser, "scale")
    given = parser.parse_args()
    machine = Machine.here()
    rows = []
    for replicas in given.replicas:  # Ray starts once in a process
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            rows += process.submit(measured, replicas, given.repeats, given.frame_ms / 1000).result()
    rows.sort(key=lambda row: REPLICAS.index(row["replicas"]))
    print(f"\n{SCALE.markdown(rows)}")
    options = {"width": WIDTH, "height": HEIGHT, "frame_ms": given.frame_ms, "repeats": given.repeats}
    Figures("scale", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
