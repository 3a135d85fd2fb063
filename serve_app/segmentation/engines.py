"""What turns frames into a cutout, chosen by the profile. Nothing here imports torch: an engine does, in its replica.

auto            openvino on a CPU, torch on CUDA
torch           the network as it is written: the reference
torch-compiled  torch.compile, for CUDA
openvino        OpenVINO, for CPUs
module:function an engine of another make, for tests and benchmarks
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from serve_app.fal import Variant
from serve_app.picture import Frames
from serve_app.protocols import CutOptions, Cutout
from serve_app.settings import SegmenterSettings

OWN = "serve_app.segmentation.processing:make_engine"


class Engine(Protocol):
    """What turns frames into a cutout. Called by one thread at a time."""

    def cut_out(self, frames: Frames, options: CutOptions, cancelled: Callable[[], bool]) -> Cutout: ...


def make_engine(variant: Variant, settings: SegmenterSettings) -> Engine:
    """The engine of a variant as its settings describe it. Raises CheckpointError."""
    path = settings.engine if ":" in settings.engine else OWN
    module, _, function = path.partition(":")
    engine: Engine = getattr(import_module(module), function)(variant, settings)
    return engine
