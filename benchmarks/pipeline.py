"""A whole job through the running service beside its stages alone: frames per second and CPU-seconds.

    python -m benchmarks.pipeline

The clip is 640x360, scaled from the demo clip. The stages alone are run in this process, chunk by chunk, with
the plan and the settings of the local profile. Before measuring, one job warms the service up.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx

from serve_app.cli.client import served
from serve_app.fal import ENDPOINT, OutputType, Variant
from serve_app.jobs.request import JobRequest
from serve_app.local.profile import Profile, free_port
from serve_app.local.service import running
from serve_app.protocols import CutOptions, Frames, IndexBrief, JoinRequest
from serve_app.runner.chunk_calls import encode_settings
from serve_app.runner.plan import ChunkLimits, plan_chunks
from serve_app.segmentation.engines import make_engine
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout, has_alpha
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "data" / "clips" / "bigbuckbunny.mp4"


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
    chunks = plan_chunks(index, ChunkLimits(**settings.chunk.model_dump()))
    options = CutOptions(
        request.operating_size,
        request.refine_foreground,
        not has_alpha(request.output_type),
        cutout_layout(index.layout, request.output_type),
    )

    def decode() -> list[Frames]:
        decoder = ChunkDecoder(clip, IndexBrief.of(index), settings.decoder.threads)
        return [decoder.decode(chunk, lambda: False) for chunk in chunks]

    frames, decoding = timed(own_cpu, decode)
    engine.cut_out(frames[0], options, lambda: False)  # warm
    cutouts, segmenting = timed(own_cpu, lambda: [engine.cut_out(f, options, lambda: False) for f in frames])
    written = encode_settings(request, index)
    pieces = [directory / f"{chunk.number}.piece" for chunk in chunks]

    def encode() -> None:
        for cutout, path in zip(cutouts, pieces, strict=True):
            encode_piece(cutout, written, path, lambda: False, settings.encoder.threads)

    _, encoding = timed(own_cpu, encode)
    order = JoinRequest(
        tuple(p.name for p in pieces), "", index.audio, written, index.frame_duration, "output.mp4"
    )
    _, joining = timed(
        own_cpu, lambda: join_pieces(lambda: pieces, order, clip, directory / "joined", lambda: False)
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
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    given = parser.parse_args()
    kind = OutputType[given.type.upper()]
    request = JobRequest("", output_type=kind, refine_foreground=not given.no_refine)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        clip = directory / "clip.mp4"
        frames = scaled(CLIP, clip, 640, 360)
        profile = Profile.load(
            ROOT / "config" / "local.yaml",
            free_port(),
            data_dir=directory / "data",
            files={"port": free_port()},
        )
        alone = stages(clip, profile, request, directory)
        job, idle = whole_job(clip, profile, request)
    total = sum(cost.cpu for cost in alone.values())
    if given.json:
        print(
            json.dumps({"fps": frames / job.wall, "cpu": job.cpu, "stages_cpu": total, "idle_cpu": idle.cpu})
        )
        return
    refined = "with" if request.refine_foreground else "without"
    print(f"640x360, {frames} frames, {given.type}, {refined} refinement\n")
    print("| | frames/s | CPU-s | CPU-ms a frame |")
    print("| --- | --- | --- | --- |")
    for stage, cost in alone.items():
        print(
            f"| {stage} alone | {frames / cost.wall:.1f} | {cost.cpu:.2f} | {cost.cpu / frames * 1000:.1f} |"
        )
    print(f"| sum of the stages | | {total:.2f} | {total / frames * 1000:.1f} |")
    print(f"| **whole job** | **{frames / job.wall:.1f}** | {job.cpu:.2f} | {job.cpu / frames * 1000:.1f} |")
    print(f"| the idle service, as long | | {idle.cpu:.2f} | |")
    print(f"\nCPU-seconds of the whole job / sum of the stages: {job.cpu / total:.3f}")


if __name__ == "__main__":
    main()
