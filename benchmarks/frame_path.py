"""CPU-milliseconds of each part of the frame path in a segmenter, at several sizes of the source.

    python -m benchmarks.frame_path

Frames of the demo clip, scaled, go through the engine of the local profile with foreground refinement, as for an mp4:
one thread, from planes to planes. A share is that of the network's time on the same frames, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.tables import FRAME_PATH
from serve_app.fal import Variant
from serve_app.local.profile import Profile
from serve_app.picture import Frames, PixelLayout
from serve_app.protocols import CutOptions
from serve_app.segmentation import processing

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "data" / "clips" / "bigbuckbunny.mp4"
SIZES = ((640, 360), (1920, 1080), (3840, 2160))
# The functions of `serve_app.segmentation.processing` behind each part.
PARTS = {
    "planes to RGB": ("to_rgb", "to_sdr"),
    "network input": ("to_network",),
    "matte": ("to_matte", "snap_ends"),
    "refinement": ("estimate_where_needed",),
    "RGB to planes": ("from_rgb", "keep_source"),
}


def scaled_frames(width: int, height: int, count: int) -> Frames:
    """`count` frames spread evenly over the demo clip, as 4:2:0 planes."""
    layout = PixelLayout(width, height)
    with av.open(str(CLIP)) as clip:
        pictures = list(clip.decode(video=0))
    chosen = pictures[:: max(1, len(pictures) // count)][:count]
    planes = [np.empty((len(chosen), *size), np.uint8) for size in layout.plane_sizes]
    for row, picture in enumerate(chosen):
        small = picture.reformat(width, height, "yuv420p")
        for plane, made in zip(planes, small.planes, strict=True):
            lines = np.frombuffer(bytes(made), np.uint8).reshape(-1, made.line_size)
            plane[row] = lines[: plane.shape[1], : plane.shape[2]]
    return Frames(tuple(planes), layout, np.arange(len(chosen)), Fraction(1, 25))


@contextmanager
def timed_parts(engine: processing.CutoutEngine) -> Iterator[dict[str, float]]:
    """CPU-seconds of each part while the engine works in one thread."""
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*args)
            finally:
                spent[part] += time.process_time() - begun

        return call

    places: list[tuple[Any, str, str]] = [
        (processing, name, part) for part, functions in PARTS.items() for name in functions
    ]
    places.append((type(engine.network), "__call__", "network"))
    plain = [getattr(owner, name) for owner, name, _ in places]
    try:
        for (owner, name, part), work in zip(places, plain, strict=True):
            setattr(owner, name, timed(part, work))
        yield spent
    finally:
        for (owner, name, _), work in zip(places, plain, strict=True):
            setattr(owner, name, work)


def measure(engine: processing.CutoutEngine, width: int, height: int, count: int) -> list[Row]:
    frames = scaled_frames(width, height, count)
    options = CutOptions(1024, refine_foreground=True, over_black=True, layout=frames.layout)

    def work() -> None:
        engine.cut_out(frames, options, lambda: False)

    work()  # warm
    with timed_parts(engine) as spent:
        begun = time.process_time()
        work()
        whole = time.process_time() - begun
    spent["everything else"] = whole - sum(spent.values())
    colours = sum(spent[part] for part in ("planes to RGB", "refinement", "RGB to planes"))
    parts = {**spent, "colours and refinement": colours}
    return [
        {
            "size": f"{width}x{height}",
            "part": part,
            "cpu_ms": seconds / len(frames) * 1000,
            "share": seconds / spent["network"],
        }
        for part, seconds in parts.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=12, help="of the clip (default: 12)")
    add_out(parser, "frame_path")
    given = parser.parse_args()
    machine = Machine.here()
    with TemporaryDirectory(prefix="bench-") as directory:
        settings = Profile.load(ROOT / "config" / "local.yaml", 8000, data_dir=Path(directory)).settings
        chosen = settings.segmenter_for(Variant.LIGHT).model_copy(update={"threads": 1})
        engine = processing.make_engine(Variant.LIGHT, chosen)
        rows = [row for width, height in SIZES for row in measure(engine, width, height, given.frames)]
    print(FRAME_PATH.markdown(rows))
    options = {"frames": given.frames, "threads": 1, "engine": engine.network.name}
    Figures("frame_path", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
