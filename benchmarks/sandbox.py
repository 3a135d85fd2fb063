"""What the media process costs: frames decoded in it and in this process, until they are copied to the object store.

python -m benchmarks.sandbox [--frames 24] [--rounds 9]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.figures import Machine
from serve_app.picture import Frames
from serve_app.protocols import Chunk, IndexBrief
from serve_app.runner.plan import plan_chunks
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import ChunkSettings, SandboxSettings, SourceLimits
from serve_app.video.decode import ChunkDecoder
from tests.video.clips import X264, Clip, make


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=24, help="of a chunk")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    machine = Machine.here()
    sandbox = Sandbox(SandboxSettings(), threads=1)
    with TemporaryDirectory() as directory:
        clip = Clip("hd.mp4", width=1920, height=1080, frames=4 * options.frames, options=X264)
        path = make(Path(directory) / clip.name, clip)
        index = sandbox.probe(path, SourceLimits(), never)
        brief, chunks = IndexBrief.of(index), plan_chunks(index, ChunkSettings(max_frames=options.frames))
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(options.rounds):  # in turn, so that other work on the machine disturbs both
            with closing(ChunkDecoder(path, brief)) as decoder:
                ours += seconds(decoder.decode, chunks)
            with closing(sandbox.source(path, brief)) as source:
                theirs += seconds(source.decode, chunks)
        probes = [timed(lambda: sandbox.probe(path, SourceLimits(), never)) for _ in range(options.rounds)]
    before, after = median(ours) * 1000, median(theirs) * 1000
    print(
        f"1080p, ms a frame, median of {len(ours)} chunks: in this process {before:.2f}, in a media process"
    )
    print(f"{after:.2f}: {after - before:+.2f}; a probe with its process: {median(probes) * 1000:.0f} ms")
    print(machine)


def seconds(decode: Callable[[Chunk, Callable[[], bool]], Frames], chunks: list[Chunk]) -> list[float]:
    """Seconds a frame, of each chunk: decoding, and the copy that Ray makes of the planes."""
    found = []
    for chunk in chunks:
        began = time.perf_counter()
        frames = decode(chunk, never)
        stored = [plane.copy() for plane in frames.planes]
        found.append((time.perf_counter() - began) / len(frames))
        del frames, stored
    return found


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def never() -> bool:
    return False


if __name__ == "__main__":
    main()
