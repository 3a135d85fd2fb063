"""A whole job through the running service beside its stages alone: frames per second and CPU-seconds.

    python -m benchmarks.pipeline

The clip is 640x360, scaled from the demo clip. The stages alone are run in this process, chunk by chunk, with
the plan and the settings of the local profile. Before measuring, one job warms the service up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.tables import PIPELINE
from serve_app.cli.client import served
from serve_app.fal import ENDPOINT, OutputType, Variant
from serve_app.jobs.request import JobRequest
from serve_app.local.profile import Profile, free_port
from serve_app.local.service import running
from serve_app.picture import Frames
from serve_app.protocols import Expected, IndexBrief, JoinPiece, JoinRequest
from serve_app.runner.plan import cut_options, encode_settings, plan_chunks
from serve_app.segmentation.processing import make_engine
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "data" / "clips" / "bigbuckbunny.mp4"
WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float


def scaled(source: Path, out: Path, width: int, height: int) -> int:
    """The clip at another size, without sound; its number of frames."""
    count = 0
    with av.open(str(source)) as clip, av.open(str(out), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": "18", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in clip.decode(video=0):
            target.mux(stream.encode(frame.reformat(width, height, "yuv420p")))
            count += 1
        target.mux(stream.encode(None))
    return count


def own_cpu() -> float:
    return time.process_time()


def service_cpu(root: int) -> float:
    """CPU-seconds that `root` and everything below it has used so far."""
    parents, spent = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(path.parent.name)
        parents[pid], spent[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(spent.get(pid, 0) for pid in found) / 100


def timed(cpu: Callable[[], float], work: Callable[[], Any]) -> tuple[Any, Cost]:
    wall, spent = time.perf_counter(), cpu()
    result = work()
    return result, Cost(time.perf_counter() - wall, cpu() - spent)


def stages(clip: Path, profile: Profile, request: JobRequest, directory: Path) -> dict[str, Cost]:
    """Each stage over the whole clip, one after the other, in this process."""
    settings = profile.settings
    engine = make_engine(Variant.LIGHT, settings.segmenter_for(Variant.LIGHT))
    index, probing = timed(own_cpu, lambda: probe(clip))
    options = cut_options(request, index, settings.picture)
    chunks = plan_chunks(index, settings.chunk, options.layout)

    def decode() -> list[Frames]:
        decoder = ChunkDecoder(clip, IndexBrief.of(index), settings.decoder.threads)
        return [decoder.decode(chunk, lambda: False) for chunk in chunks]

    frames, decoding = timed(own_cpu, decode)
    engine.cut_out(frames[0], options, lambda: False)  # warm
    cutouts, segmenting = timed(own_cpu, lambda: [engine.cut_out(f, options, lambda: False) for f in frames])
    written = encode_settings(request, index, settings.picture)
    paths = [directory / f"{chunk.number}.piece" for chunk in chunks]

    def encode() -> list[JoinPiece]:
        figures = (
            encode_piece(cutout, written, path, lambda: False, settings.encoder.threads)
            for cutout, path in zip(cutouts, paths, strict=True)
        )
        return [
            JoinPiece(path.name, made.frames, made.first_pts, made.last_pts, made.sha256)
            for path, made in zip(paths, figures, strict=True)
        ]

    pieces, encoding = timed(own_cpu, encode)
    first, last = int(index.pts[0]), int(index.pts[-1])
    expected = Expected(len(index.pts), first, last, last + index.last_duration, index.frame_duration)
    order = JoinRequest(tuple(pieces), "", index.audio, written, expected, "output.mp4")
    _, joining = timed(
        own_cpu, lambda: join_pieces(lambda: paths, order, clip, directory / "joined", lambda: False)
    )
    return {
        "index": probing,
        "decode": decoding,
        "segment": segmenting,
        "encode": encoding,
        "join": joining,
    }


def whole_job(clip: Path, profile: Profile, request: JobRequest) -> tuple[Cost, Cost]:
    """(a job, the idle service for as long), with the CPU-seconds of every process of the service."""
    with served(clip) as source, running(profile):
        body = {
            "video_url": source,
            "video_output_type": request.output_type.value,
            "refine_foreground": request.refine_foreground,
        }

        def post() -> None:
            reply = httpx.post(profile.url + ENDPOINT, json=body, timeout=None)
            assert reply.status_code == 200, reply.text

        post()
        # This process is the root of the service's processes; its own share (waiting) is counted too.
        _, job = timed(lambda: service_cpu(os.getpid()), post)
        _, idle = timed(lambda: service_cpu(os.getpid()), lambda: time.sleep(job.wall))
    return job, idle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", choices=["mp4", "webm", "mov", "gif"], default="mp4")
    parser.add_argument("--no-refine", action="store_true")
    add_out(parser, "pipeline")
    given = parser.parse_args()
    machine = Machine.here()
    kind = OutputType[given.type.upper()]
    request = JobRequest("", output_type=kind, refine_foreground=not given.no_refine)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        clip = directory / "clip.mp4"
        frames = scaled(CLIP, clip, WIDTH, HEIGHT)
        profile = Profile.load(
            ROOT / "config" / "local.yaml",
            free_port(),
            data_dir=directory / "data",
            files={"port": free_port()},
        )
        alone = stages(clip, profile, request, directory)
        job, idle = whole_job(clip, profile, request)
    rows = [row(f"{stage} alone", frames, cost.cpu, cost.wall) for stage, cost in alone.items()]
    total = sum(cost.cpu for cost in alone.values())
    rows.append(row("sum of the stages", frames, total))
    rows.append(row("whole job", frames, job.cpu, job.wall))
    rows.append(row("the idle service, as long", frames, idle.cpu) | {"cpu_ms_a_frame": None})
    refined = "with" if request.refine_foreground else "without"
    print(f"{WIDTH}x{HEIGHT}, {frames} frames, {given.type}, {refined} refinement\n")
    print(PIPELINE.markdown(rows))
    print(f"\nCPU-seconds of the whole job / sum of the stages: {job.cpu / total:.3f}")
    options = {
        "width": WIDTH,
        "height": HEIGHT,
        "frames": frames,
        "type": given.type,
        "refine": request.refine_foreground,
    }
    Figures("pipeline", options, machine, rows).save(given.out)


def row(part: str, frames: int, cpu_s: float, wall_s: float | None = None) -> Row:
    """A line of the table; without a rate where nothing was timed as a whole."""
    fps = None if wall_s is None else frames / wall_s
    return {"part": part, "fps": fps, "cpu_s": cpu_s, "cpu_ms_a_frame": cpu_s / frames * 1000}


if __name__ == "__main__":
    main()
