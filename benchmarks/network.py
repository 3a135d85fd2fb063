"""CPU-seconds of one frame through the network, each engine beside plain eager float32, in one run.

    python -m benchmarks.network

Random weights: speed does not depend on them. One thread computes one frame, as in the service, so that the figures
depend little on other load.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from serve_app.segmentation.networks import make_network
from serve_app.segmentation.openvino_network import computes_in_bfloat16
from serve_app.settings import SegmenterSettings

NETWORKS = {"mini": ("u2netp", 256), "tiny": ("swin_v1_t", 512), "large": ("swin_v1_l", 512)}
BASE = "plain eager float32"
ENGINES = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]


def random_checkpoint(backbone: str, directory: Path) -> Checkpoint:
    """A directory of our own form with random weights."""
    torch.manual_seed(0)
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(backbone))
    network.config.save_pretrained(directory)
    save_file(network.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    return find(str(directory))


def seconds(forward: Callable[[Tensor], Any], size: int, runs: int) -> float:
    """CPU-seconds of a frame: the least of `runs`, after one that is not counted."""
    pixels = torch.rand(1, 3, size, size)
    found = []
    with torch.inference_mode():
        forward(pixels)
        for _ in range(runs):
            begun = time.process_time()
            forward(pixels)
            found.append(time.process_time() - begun)
    return min(found)


def measure(name: str, runs: int, size: int | None) -> dict[str, Any]:
    """{"size", "seconds": {engine: CPU-seconds}, "ratio": {engine: BASE / engine}} of a network."""
    backbone, usual = NETWORKS[name]
    size = size or usual
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = random_checkpoint(backbone, Path(directory))
        plain = checkpoint.network()
        spent = {BASE: seconds(lambda pixels: plain(pixels).logits, size, runs)}
        for engine, dtype in ENGINES:
            if engine == "openvino" and dtype == "bfloat16" and not computes_in_bfloat16():
                continue
            settings = SegmenterSettings(
                engine=engine,
                dtype=dtype,
                threads=1,
                cache=Path(directory) / "engines",  # type: ignore[arg-type]
            )
            spent[f"{engine} {dtype}"] = seconds(make_network(checkpoint, settings), size, runs)
    ratio = {engine: spent[BASE] / s for engine, s in spent.items()}
    return {"size": size, "seconds": spent, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--size", type=int, help="side of the frame (default: 256 for mini, else 512)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, given.runs, given.size) for name in given.networks}
    if given.json:
        print(json.dumps(found))
        return
    print("| network | engine | CPU-s a frame | plain / engine |")
    print("| --- | --- | --- | --- |")
    for name, result in found.items():
        for engine, spent in result["seconds"].items():
            print(f"| {name} {result['size']}² | {engine} | {spent:.3f} | {result['ratio'][engine]:.2f} |")


if __name__ == "__main__":
    main()
