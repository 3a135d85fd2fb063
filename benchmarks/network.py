"""CPU-seconds of one frame through the network, each engine beside plain eager float32, in one run.

    python -m benchmarks.network                          random weights: speed does not depend on them
    python -m benchmarks.network --official DIRECTORY     a checkout of the official code as the base

One thread computes one frame, as in the service, so that the figures depend little on other load. The official code
runs as it is; where torchvision is missing, this package's plain deformable convolution stands in for its operator.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

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
    return find(str(directory))


def official(directory: Path, backbone: str) -> Callable[[Tensor], Any]:
    """The official network in evaluation mode, from a checkout of its repository."""
    sys.path.insert(0, str(directory))
    try:
        import torchvision.ops  # noqa: F401
    except ImportError:
        _stand_in_for_torchvision()
    from models.birefnet import BiRefNet  # type: ignore[import-not-found]

    from config import Config  # type: ignore[import-not-found]

    made = Config.__init__

    def chosen(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.bb = backbone
        widths = {"swin_v1_t": [768, 384, 192, 96], "swin_v1_l": [1536, 768, 384, 192]}[backbone]
        self.lateral_channels_in_collection = [2 * width for width in widths]
        self.cxt = self.lateral_channels_in_collection[1:][::-1]

    Config.__init__ = chosen
    network = BiRefNet(bb_pretrained=False).eval()
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


def measure(name: str, runs: int, size: int | None, official_code: Path | None) -> dict[str, Any]:
    """{"size", "base", "seconds": {engine: CPU-seconds}, "ratio": {engine: base / engine}} of a network."""
    backbone, usual = NETWORKS[name]
    size = size or usual
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = random_checkpoint(backbone, Path(directory))
        base = "plain eager float32"
        if official_code and backbone != "u2netp":
            base = "official eager float32"
            spent = {base: seconds(official(official_code, backbone), size, runs)}
        else:
            plain = checkpoint.network()
            spent = {base: seconds(lambda pixels: plain(pixels).logits, size, runs)}
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
    ratio = {engine: spent[base] / s for engine, s in spent.items()}
    return {"size": size, "base": base, "seconds": spent, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--size", type=int, help="side of the frame (default: 256 for mini, else 512)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--official", type=Path, help="a checkout of the official repository")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measure(name, given.runs, given.size, given.official) for name in given.networks}
    if given.json:
        print(json.dumps(found))
        return
    print("| network | engine | CPU-s a frame | base / engine |")
    print("| --- | --- | --- | --- |")
    for name, result in found.items():
        for engine, spent in result["seconds"].items():
            print(f"| {name} {result['size']}² | {engine} | {spent:.3f} | {result['ratio'][engine]:.2f} |")


if __name__ == "__main__":
    main()
