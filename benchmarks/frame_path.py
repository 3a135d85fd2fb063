"""CPU-milliseconds of what surrounds the network, per frame and step, at several sizes of the source.

    python -m benchmarks.frame_path

Frames of the demo clip, with the mattes that the embedded checkpoint makes of them; one thread, as in the service.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from serve_app.fal import Variant
from serve_app.protocols import PixelLayout
from serve_app.segmentation.colour import from_rgb, keep_source, to_rgb
from serve_app.segmentation.foreground import estimate_where_seen
from serve_app.segmentation.processing import make_engine, to_matte, to_network
from serve_app.settings import SegmenterSettings

CLIP = Path(__file__).parents[1] / "tests" / "data" / "clips" / "bigbuckbunny.mp4"
SIZES = {"640x360": (640, 360), "1280x720": (1280, 720), "1920x1080": (1920, 1080), "3840x2160": (3840, 2160)}
EVERY = 20  # frames of the clip that are taken


def clip_frames(layout: PixelLayout, count: int) -> list[tuple[torch.Tensor, ...]]:
    """Planes [1, H, W] of some frames of the clip, scaled."""
    found: list[tuple[torch.Tensor, ...]] = []
    with av.open(str(CLIP)) as clip:
        for number, frame in enumerate(clip.decode(video=0)):
            if number % EVERY:
                continue
            scaled = frame.reformat(layout.width, layout.height, "yuv420p")
            planes = []
            for plane, (height, width) in zip(scaled.planes, layout.plane_sizes, strict=True):
                rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
                planes.append(torch.from_numpy(rows[:, :width].copy())[None])
            found.append(tuple(planes))
            if len(found) == count:
                break
    return found


@torch.inference_mode()
def measure(width: int, height: int, count: int, cache: Path) -> dict[str, float]:
    """Mean CPU-milliseconds of each step; the first frame is not counted."""
    layout = PixelLayout(width, height)
    engine = make_engine(Variant.LIGHT, SegmenterSettings(threads=1, cache=cache))
    size = engine.network_size(1024)
    spent: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = work()
        spent[step] = spent.get(step, 0.0) + time.process_time() - begun
        return result

    for number, planes in enumerate(clip_frames(layout, count + 1)):
        if number == 1:
            spent.clear()
        rgb = timed("planes to RGB", lambda planes=planes: to_rgb(planes, layout))
        pixels = timed("to network input", lambda rgb=rgb: to_network(rgb, size))
        logits = timed("network", lambda pixels=pixels: engine.network(pixels))
        matte = timed("to matte", lambda logits=logits: to_matte(logits, (height, width)))
        alpha = matte.float() / 255
        colour = timed("refinement", lambda rgb=rgb, alpha=alpha: estimate_where_seen(rgb, alpha))
        made = timed("RGB to planes", lambda colour=colour, alpha=alpha: from_rgb(colour * alpha, layout))
        opaque = (matte == 255).squeeze(1)
        timed(
            "opaque samples",
            lambda made=made, planes=planes, opaque=opaque: keep_source(made, layout, planes, layout, opaque),
        )
    return {step: seconds / count * 1000 for step, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        found = {name: measure(*size, given.frames, Path(cache)) for name, size in SIZES.items()}
    if given.json:
        print(json.dumps(found))
        return
    print(f"| CPU-ms a frame | {' | '.join(SIZES)} |")
    print(f"| --- |{' --- |' * len(SIZES)}")
    for step in next(iter(found.values())):
        print(f"| {step} | {' | '.join(f'{found[size][step]:.1f}' for size in SIZES)} |")


if __name__ == "__main__":
    main()
