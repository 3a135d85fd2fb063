"""CPU-seconds of one frame through the network, each engine beside plain eager float32, in one run.

    python -m benchmarks.network                          random weights: speed does not depend on them
    python -m benchmarks.network --official DIRECTORY     a checkout of the official code as the base

One thread computes one frame, as in the service, so that the figures depend little on other load. The official code
runs as it is; where torchvision is missing, this package's plain deformable convolution stands in for its operator. The
official code has no network "mini".
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.tables import NETWORK
from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.birefnet.deformable import deform_conv2d
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation
from serve_app.segmentation.networks import make_network
from serve_app.segmentation.openvino_network import computes_in_bfloat16
from serve_app.settings import SegmenterSettings

NETWORKS = {"mini": ("u2netp", 256), "tiny": ("swin_v1_t", 512), "large": ("swin_v1_l", 512)}
ENGINES = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]


def random_checkpoint(backbone: str, directory: Path) -> Checkpoint:
    """A directory of our own form with random weights."""
    torch.manual_seed(0)
    network = BiRefNetForImageSegmentation(BiRefNetConfig.for_backbone(backbone))
    network.config.save_pretrained(directory)
    save_file(network.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    return find(str(directory), SegmenterSettings())


def official(directory: Path, backbone: str) -> Callable[[Tensor], Any]:
    """The official network in evaluation mode, from a checkout of its repository."""
    sys.path.insert(0, str(directory))
    if find_spec("torchvision") is None:
        _stand_in_for_torchvision()
    Config = import_module("config").Config
    made = Config.__init__

    def chosen(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.bb = backbone
        widths = {"swin_v1_t": [768, 384, 192, 96], "swin_v1_l": [1536, 768, 384, 192]}[backbone]
        self.lateral_channels_in_collection = [2 * width for width in widths]
        self.cxt = self.lateral_channels_in_collection[1:][::-1]

    Config.__init__ = chosen
    network = import_module("models.birefnet").BiRefNet(bb_pretrained=False).eval()
    Config.__init__ = made
    return lambda pixels: network(pixels)[-1]


def _stand_in_for_torchvision() -> None:
    def operator(
        x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None, *, mask: Tensor, **_: Any
    ) -> Tensor:
        out = deform_conv2d(x, offset, mask, weight)
        return out if bias is None else out + bias.view(1, -1, 1, 1)

    def module(name: str, **contents: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__dict__.update(contents)
        sys.modules[name] = made
        return made

    models = module(
        "torchvision.models",
        **dict.fromkeys(
            ("vgg16", "vgg16_bn", "resnet50", "VGG16_Weights", "VGG16_BN_Weights", "ResNet50_Weights")
        ),
    )
    ops = module("torchvision.ops", deform_conv2d=operator)
    transforms = module("torchvision.transforms")
    module("torchvision", models=models, ops=ops, transforms=transforms)


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


def engines(
    checkpoint: Checkpoint, cache: Path, official_code: Path | None
) -> Iterator[tuple[str, Callable[[Tensor], Any]]]:
    """Name and forward pass of each way to compute a network; the first is the base."""
    backbone = checkpoint.config.backbone
    if official_code and backbone != "u2netp":
        yield "official eager float32", official(official_code, backbone)
    else:
        plain = checkpoint.network()
        yield "plain eager float32", lambda pixels: plain(pixels).logits
    for engine, dtype in ENGINES:
        if engine == "openvino" and dtype == "bfloat16" and not computes_in_bfloat16():
            continue
        settings = SegmenterSettings(engine=engine, dtype=dtype, threads=1, cache=cache)
        network = make_network(checkpoint, settings)
        yield network.name, network


def measure(name: str, runs: int, size: int | None, official_code: Path | None) -> Iterator[Row]:
    """For each engine: CPU-seconds of one frame, and how often they go into those of the base."""
    backbone, usual = NETWORKS[name]
    size, base = size or usual, None
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = random_checkpoint(backbone, Path(directory))
        for engine, forward in engines(checkpoint, Path(directory) / "engines", official_code):
            spent = seconds(forward, size, runs)
            base = base or spent
            yield {"network": name, "size": size, "engine": engine, "cpu_s": spent, "ratio": base / spent}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--size", type=int, help="side of the frame (default: 256 for mini, else 512)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--official", type=Path, help="a checkout of the official repository")
    add_out(parser, "network")
    given = parser.parse_args()
    machine = Machine.here()
    torch.set_num_threads(1)
    print(NETWORK.head)
    rows = []
    for name in given.networks:
        for row in measure(name, given.runs, given.size, given.official):
            rows.append(row)
            print(NETWORK.line(row), flush=True)
    options = {"runs": given.runs, "threads": 1, "openvino": version("openvino")}
    Figures("network", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
