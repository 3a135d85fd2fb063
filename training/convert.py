"""The published U²-Net-P weights, from their ONNX file to our parameter names.

The graph holds 119 convolutions in the order in which they run, which is also the order in which our modules are
registered; so the mapping is a plain zip, guarded by the shapes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.teacher import Teacher

CONVOLUTIONS = 119


def convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every convolution, in the order of the graph."""
    graph = onnx.load(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    return [(arrays[n.input[1]], arrays[n.input[2]]) for n in graph.node if n.op_type == "Conv"]


def convert(path: Path) -> dict[str, Tensor]:
    """State of `Teacher`; the part without `stage1d`, `side*` and `outconv` fits `U2NetP`."""
    # Stage 1d is registered after 2d and before the side outputs, as it runs.
    layers = [(name, module) for name, module in Teacher().named_modules() if isinstance(module, nn.Conv2d)]
    weights = convolutions(path)
    if not len(layers) == len(weights) == CONVOLUTIONS:
        raise ValueError(f"{path} has {len(weights)} convolutions, expected {CONVOLUTIONS}")
    state: dict[str, Tensor] = {}
    for (name, layer), (kernel, bias) in zip(layers, weights, strict=True):
        if tuple(layer.weight.shape) != kernel.shape:
            raise ValueError(f"{name} is {tuple(layer.weight.shape)}, the file has {kernel.shape}")
        state[f"{name}.weight"] = torch.from_numpy(kernel.copy())
        state[f"{name}.bias"] = torch.from_numpy(bias.copy())
    return state


def backbone_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of the teacher that becomes the backbone of the student."""
    return {
        name: value for name, value in state.items() if not name.startswith(("stage1d", "side", "outconv"))
    }
