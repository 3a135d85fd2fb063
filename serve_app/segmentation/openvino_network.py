"""The network in OpenVINO, for CPUs.

The torch network is traced at one size, converted and compiled; what comes out is kept on disk, so that later starts
only read it. The frontend is used directly: the package's own `convert_model` sends usage reports.
"""

from __future__ import annotations

import hashlib
import platform
import threading
import uuid
import warnings
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset8 as operations
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor

from serve_app import birefnet
from serve_app.birefnet.checkpoints import Checkpoint
from serve_app.birefnet.folding import fold

HINTS = {"float32": "f32", "bfloat16": "bf16"}


def computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoNetwork:
    """`threads` images at a time, each by one thread from end to end: the result does not depend on the schedule.

    dtype: "float32" or "bfloat16" (positions of deformable samples stay in float32 all the same).
    cache: directory of compiled networks.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, threads: int, cache: Path) -> None:
        self.name = f"openvino {dtype}"
        self._checkpoint, self._dtype, self._cache = checkpoint, dtype, cache
        self._core = ov.Core()
        _use_once(self._core)
        self._options = {
            "INFERENCE_PRECISION_HINT": HINTS[dtype],
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # replicas share the machine
        }
        self._compiled: dict[tuple[int, ...], ov.CompiledModel] = {}
        self._compiling = threading.Lock()
        self._own = threading.local()  # a request serves one thread

    def prepare(self, size: tuple[int, int]) -> None:
        """Read the compiled network of this (height, width), or make it first: seconds to minutes, once."""
        self._model((1, 3, *size))

    def __call__(self, pixels: Tensor) -> Tensor:
        shape = tuple(pixels.shape)
        requests = self._own.__dict__.setdefault("requests", {})
        if shape not in requests:
            requests[shape] = self._model(shape).create_infer_request()
        request: ov.InferRequest = requests[shape]
        request.infer([pixels.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data.copy())

    def _model(self, shape: tuple[int, ...]) -> ov.CompiledModel:
        with self._compiling:
            if shape not in self._compiled:
                path = self._cache / self._file_name(shape)
                if not path.is_file():
                    self._build(shape, path)
                # What was just built is read back as well: every start computes with the same thing.
                self._compiled[shape] = self._core.import_model(path.read_bytes(), "CPU", self._options)
            return self._compiled[shape]

    def _file_name(self, shape: tuple[int, ...]) -> str:
        """By weights, shape, precision, and what the compiled form depends on: code, library, processor."""
        made_by = hashlib.sha256()
        for source in sorted(Path(birefnet.__file__).parent.glob("*.py")):
            made_by.update(source.read_bytes())
        processor = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        made_by.update(repr((ov.get_version(), platform.machine(), processor, capabilities)).encode())
        size = "x".join(map(str, shape))
        return f"{self._checkpoint.digest()[:16]}-{size}-{self._dtype}-{made_by.hexdigest()[:16]}.blob"

    def _build(self, shape: tuple[int, ...], path: Path) -> None:
        """Convert, compile and keep; readers see a whole file or none. Removes what this one replaces."""
        model = convert(self._checkpoint, shape)
        blob = self._core.compile_model(model, "CPU", self._options).export_model()
        self._cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{uuid.uuid4().hex}.part")
        part.write_bytes(blob.getbuffer())
        part.replace(path)
        for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.blob"):
            if old != path:
                old.unlink(missing_ok=True)


def _use_once(core: ov.Core) -> None:
    """One inference of a network of one operation, by the one thread that there is yet.

    At their first use the Python bindings fill static tables, in which C++ lets one thread in and the others wait. That
    thread may give up the GIL inside, and one that waits keeps it: two first inferences side by side can wait for each
    other for ever, and the replica with them.
    """
    pixels = operations.parameter([1], np.float32)
    request = core.compile_model(ov.Model([operations.relu(pixels)], [pixels]), "CPU").create_infer_request()
    request.infer([np.zeros(1, np.float32)], share_inputs=True)
    request.get_output_tensor().data.copy()


def convert(checkpoint: Checkpoint, shape: tuple[int, ...]) -> ov.Model:
    """The network as an OpenVINO model of fixed shape: float32 N 3 H W in, logits out."""
    network = fold(checkpoint.network()).requires_grad_(False)
    with warnings.catch_warnings():
        # torch.export is to replace torch.jit.trace, but OpenVINO 2026.4 cannot convert what it makes of Swin.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Sizes become constants of the traced graph, which is right here: the shape is fixed.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            lambda x: network(x).logits, torch.zeros(shape), check_trace=False
        )
    frontend = FrontEndManager().load_by_framework("pytorch")
    frontend.add_extension(ConversionExtension("birefnet::deform_conv2d", _deform_conv2d))
    decoder = TorchScriptPythonDecoder(traced, example_input=torch.zeros(shape))
    model: ov.Model = frontend.convert(frontend.load(decoder))
    model.reshape(shape)
    return model


def _deform_conv2d(node: ov.frontend.NodeContext) -> list[ov.Output]:
    """`birefnet::deform_conv2d` is an operation of OpenVINO's own, computed without storing the samples."""
    x, offset, modulation, weight = (node.get_input(i) for i in range(4))
    pad = [weight.get_partial_shape()[2].get_length() // 2] * 2
    made = operations.deformable_convolution(
        x, offset, weight, [1, 1], pad, pad, [1, 1], mask=modulation, bilinear_interpolation_pad=True
    )
    outputs: list[ov.Output] = made.outputs()
    return outputs
