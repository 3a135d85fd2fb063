"""The exponential average of the student, which is what gets written, and the writing itself."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils import logging

from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation

EMBEDDED = Path(__file__).parent.parent / "serve_app" / "birefnet" / "embedded"
LARGEST_FILE = 4_000_000


def new_model() -> BiRefNetForImageSegmentation:
    return BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone("u2netp"))


class Average:
    """Parameters and the running statistics of the batch norms, averaged over roughly the last 500 steps."""

    def __init__(self, model: nn.Module, decay: float = 0.998) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        # A short memory at the beginning, or the random start would stay in the average for long.
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def with_blended_backbone(
    model: BiRefNetForImageSegmentation, original: dict[str, Tensor], share: float
) -> BiRefNetForImageSegmentation:
    """A copy whose backbone is `share` the trained one and the rest the original one.

    Wortsman et al., "Robust fine-tuning of zero-shot models", 2022: between the two lie weights that keep what the
    original knows of photographs and most of what was learnt here.
    """
    result = copy.deepcopy(model)
    trained = result.bb.state_dict()
    result.bb.load_state_dict({name: original[name].lerp(trained[name], share) for name in trained})
    return result


def write_checkpoint(model: BiRefNetForImageSegmentation, folder: Path = EMBEDDED) -> int:
    """Write config.json and model.safetensors in half precision; return the size of the latter.

    Other processes may be reading the folder, so complete files are moved into place.
    """
    logging.disable_progress_bar()
    half = copy.deepcopy(model).half()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as partial:
        half.save_pretrained(partial)
        weights = Path(partial) / "model.safetensors"
        size = weights.stat().st_size
        if size > LARGEST_FILE:
            raise ValueError(f"the checkpoint has {size:,} bytes, more than {LARGEST_FILE:,}")
        with safe_open(weights, framework="pt") as file:
            if file.metadata() != {"format": "pt"}:
                raise ValueError(f"unexpected metadata {file.metadata()}")
        weights.chmod(0o644)  # the writer leaves it readable by its owner alone
        for name in ("config.json", "model.safetensors"):
            (Path(partial) / name).replace(folder / name)
    return size
