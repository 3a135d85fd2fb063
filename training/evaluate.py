"""How good the student is, on pictures it was not trained on: `python -m training.evaluate [--sheet FILE]`.

Composites have a true matte. The real frames have only the teacher's opinion, so their numbers say how well the student
agrees with its teacher, not how right either of them is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from training import composite, labels, sources
from training.average import EMBEDDED
from training.convert import convert
from training.data import normalised, split
from training.teacher import Teacher, load_teacher, pseudo_label

COMPOSITES = 150
RIM = 9  # pixels: how wide the strip around an outline is
Predictor = Callable[[Tensor], Tensor]


def student(model: Any) -> Predictor:
    """Images in 0..1 to mattes, as the service runs the model."""
    return lambda images: model(normalised(images)).logits.sigmoid()


def teacher_predictor(teacher: Teacher) -> Predictor:
    return lambda images: pseudo_label(teacher, images)[0]


@torch.inference_mode()
def mattes(predict: Predictor, samples: np.ndarray) -> Tensor:
    """N x 1 x H x W for N samples of RGB and matte."""
    parts = [predict(split(samples[start : start + 8])[0]) for start in range(0, len(samples), 8)]
    return torch.cat(parts)


def scores(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Means over pictures. `rim` is the mean absolute error in a strip along the true outline."""
    hard, wanted = found > 0.5, truth > 0.5
    union = (hard | wanted).flatten(1).sum(dim=1)
    iou = (hard & wanted).flatten(1).sum(dim=1) / union.clamp_min(1)
    iou[union == 0] = 1.0  # nothing there and nothing found
    error = (found - truth).abs()
    spread = F.max_pool2d(truth, RIM, 1, RIM // 2) + F.max_pool2d(-truth, RIM, 1, RIM // 2)
    strip = (spread > 0.5).float()
    rim = (error * strip).sum() / strip.sum().clamp_min(1)
    return {"IoU": iou.mean().item(), "MAE": error.mean().item(), "rim": rim.item()}


def held_out_sets() -> dict[str, np.ndarray]:
    """Name and samples of every set, none of which was trained on."""
    paths = composite.prepare(composite.SHARD, held_out=True)
    return {
        "composites": np.load(paths[0])[:COMPOSITES],
        "band": np.load(labels.HELD_OUT_FILE),
        "demo clip": np.load(labels.DEMO_FILE),
    }


def report(model: Any, teacher: Teacher) -> None:
    """Print a table in Markdown."""
    model.eval()
    print("| set | pictures | network | IoU | MAE | rim error |\n| --- | --- | --- | --- | --- | --- |")
    for name, samples in held_out_sets().items():
        truth = split(samples)[1]
        rows = {"student": student(model)}
        if name == "composites":
            rows["teacher"] = teacher_predictor(teacher)
        for network, predict in rows.items():
            s = scores(mattes(predict, samples), truth)
            print(
                f"| {name} | {len(samples)} | {network} | {s['IoU']:.3f} | {s['MAE']:.4f} | {s['rim']:.3f} |"
            )


def contact_sheet(model: Any, samples: np.ndarray, path: Path, columns: int = 6) -> None:
    """Three rows per line of pictures: the picture, the matte, the subject over green."""
    found = mattes(student(model.eval()), samples).permute(0, 2, 3, 1).numpy()
    pictures = samples[..., :3].astype(np.float32)
    grey = np.repeat(found * 255, 3, axis=-1)
    green = pictures * found + np.array((0.0, 177.0, 64.0)) * (1 - found)
    lines = []
    for start in range(0, len(samples) - columns + 1, columns):
        chosen = slice(start, start + columns)
        lines += [np.concatenate(list(kind[chosen]), axis=1) for kind in (pictures, grey, green)]
    Image.fromarray(np.concatenate(lines).round().astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=EMBEDDED)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the demo clip (PNG)")
    parser.add_argument("--sheet-of", choices=("composites", "band", "demo clip"), default="demo clip")
    options = parser.parse_args()
    model = BiRefNetForImageSegmentation.from_pretrained(options.checkpoint, dtype=torch.float32)
    report(model, load_teacher(convert(sources.SOURCES / "u2netp.onnx")))
    if options.sheet:
        contact_sheet(model, held_out_sets()[options.sheet_of], options.sheet)


if __name__ == "__main__":
    main()
