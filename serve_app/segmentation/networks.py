"""A checkpoint made ready to run: by torch itself or by OpenVINO."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from serve_app.birefnet.checkpoints import Checkpoint
from serve_app.birefnet.folding import fold
from serve_app.errors import CheckpointError
from serve_app.settings import SegmenterSettings


class Network(Protocol):
    """Normalised pixels N 3 H W float32 on the network's device to logits N 1 H W float32.

    On a CPU several threads may call it at once. `name`: the engine and its precision, for a job's log.
    """

    name: str

    def prepare(self, size: tuple[int, int]) -> None:
        """Do what the first call at this (height, width) would otherwise wait for."""

    def __call__(self, pixels: Tensor) -> Tensor: ...


class TorchNetwork:
    """The network as it is written, folded; with `compiled`, by torch.compile for one shape after the other."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype, compiled: bool) -> None:
        self.name = f"{'torch-compiled' if compiled else 'torch'} {str(dtype).removeprefix('torch.')}"
        self._dtype = dtype
        # Convolutions run a quarter faster on a CPU with channels last, and on tensor cores.
        network = fold(checkpoint.network()).to(device, dtype, memory_format=torch.channels_last)
        network.requires_grad_(False)
        self._forward = torch.compile(network, dynamic=False) if compiled else network

    def prepare(self, size: tuple[int, int]) -> None:
        """Nothing: batches of other sizes are compiled as they come."""

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self._dtype).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self._forward(pixels).logits
        return logits.float()


def make_network(checkpoint: Checkpoint, settings: SegmenterSettings) -> Network:
    """The network that `settings` ask for. Raises CheckpointError when they cannot be met on this machine."""
    device, engine = settings.device, settings.engine
    if device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(
            "the profile asks for the device cuda, but this node shows no CUDA device to torch: use a node with a "
            "GPU, or set `device: cpu`"
        )
    if engine == "auto":
        engine = "torch" if device == "cuda" else "openvino"
    fast = device == "cuda"
    if engine == "openvino":
        # Here, so that replicas of other engines do not load the library.
        from serve_app.segmentation.openvino_network import OpenVinoNetwork, computes_in_bfloat16

        fast = fast or computes_in_bfloat16()
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "bfloat16" if fast and checkpoint.config.bears_bfloat16 else "float32"
    if engine != "openvino":
        return TorchNetwork(checkpoint, device, getattr(torch, dtype), compiled=engine == "torch-compiled")
    if device != "cpu" or dtype == "float16" or (dtype == "bfloat16" and not fast):
        raise CheckpointError(
            f"the engine openvino cannot compute in {dtype} on the device {device} here: set `engine: auto` and "
            "`dtype: auto` in the profile"
        )
    assert settings.cache is not None, "Settings.segmenter_for names the directory"
    return OpenVinoNetwork(checkpoint, dtype, settings.threads, settings.cache)
