"""What `config/gpu.yaml` states of a replica's memory, and the work that needs most of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from serve_app.fal import Variant
from serve_app.picture import PixelLayout
from serve_app.segmentation.processing import make_engine
from serve_app.settings import SegmenterSettings
from tests.segmentation.frame_path import frames_of, options_for

PROFILE = Path(__file__).parents[2] / "config" / "gpu.yaml"
BACKBONES = {"large": "swin_v1_l", "tiny": "swin_v1_t"}
SMALL = PixelLayout(64, 48)  # the video's own size is not part of the statement


@dataclass(frozen=True)
class Statement:
    """A network ("large" or "tiny"), its operating size, the frames of a batch, and the peak in bytes."""

    network: str
    size: int
    frames: int
    peak: float


def statements() -> list[Statement]:
    """All cells of the table at the head of the profile."""
    found = []
    text = PROFILE.read_text()
    head = re.search(r"^# +(\d+)x\d+ +(\d+)x\d+ +(\d+)x\d+", text, re.M)
    assert head is not None
    for network in BACKBONES:
        row = re.search(rf"^# +{network} network \(Swin-\w\) +(.*)$", text, re.M)
        assert row is not None
        cells = re.findall(r"(\d+) frames? +([\d.]+)", row[1])
        for size, (frames, gigabytes) in zip(head.groups(), cells, strict=False):
            found.append(Statement(network, int(size), int(frames), float(gigabytes) * 1e9))
    return found


def save_checkpoint(directory: Path, network: str) -> Path:
    """A checkpoint of the published form and size; its weights are random."""
    directory.mkdir()
    weights = (
        BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(BACKBONES[network])).half().state_dict()
    )
    (directory / "config.json").write_text(json.dumps({}))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def cut_out_a_batch(checkpoint: Path, device: str, dtype: str, size: int, batch: int) -> None:
    """Load a network as a replica does, and cut out what its largest batch holds at this size."""
    settings = SegmenterSettings(
        engine="torch", checkpoint=str(checkpoint), device=device, dtype=dtype, batch=batch
    )
    engine = make_engine(Variant.DYNAMIC, settings)
    frames = max(1, batch * 1024 * 1024 // size**2)
    cutout = engine.cut_out(frames_of(SMALL, frames), options_for(SMALL, operating_size=size), lambda: False)
    assert cutout.provenance.size == (size, size)
    assert cutout.matte.shape == (frames, SMALL.height, SMALL.width)


def peak_of_cuda(checkpoint: Path, dtype: str, size: int, batch: int) -> int:
    """The most bytes that torch held on the device, weights included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    cut_out_a_batch(checkpoint, "cuda", dtype, size, batch)
    return torch.cuda.max_memory_allocated() - before
