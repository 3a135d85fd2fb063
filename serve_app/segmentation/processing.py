"""From decoded planes to a cutout: colour conversion, network, matte, foreground, and back to planes.

The one place where the two packages meet. No Ray here: the benchmarks and the GPU tests use it as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.birefnet.variants import VARIANTS
from serve_app.errors import InferenceFailed, JobCancelled
from serve_app.fal import Variant
from serve_app.picture import Frames, Plane
from serve_app.protocols import CutOptions, Cutout, Provenance
from serve_app.segmentation.colour import from_rgb, keep_source, to_rgb
from serve_app.segmentation.foreground import estimate_foreground, estimate_where_needed
from serve_app.segmentation.matte import resized, snap_ends
from serve_app.segmentation.networks import Network, make_network
from serve_app.segmentation.tone_mapping import to_sdr
from serve_app.settings import SegmenterSettings

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
REFERENCE_PIXELS = 1024 * 1024  # the size for which `batch` is given


@dataclass(frozen=True, slots=True)
class OutputBuffers:
    """Where the frames of a chunk are written: colour planes and matte, [N, H, W] each."""

    planes: tuple[Plane, ...]
    matte: np.ndarray

    @classmethod
    def blank(cls, count: int, options: CutOptions) -> OutputBuffers:
        layout = options.layout
        planes = tuple(np.empty((count, *size), layout.sample_type) for size in layout.plane_sizes)
        return cls(planes, np.empty((count, layout.height, layout.width), np.uint8))


class CutoutEngine:
    """One network on one device. Not thread-safe: one chunk at a time.

    On a CPU, `threads` frames are computed side by side, each by one thread from end to end: nothing waits at
    the barriers inside an operator. On a GPU, `batch` frames go through together.
    """

    def __init__(
        self, checkpoint: Checkpoint, network: Network, device: str, batch: int, threads: int
    ) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.device = torch.device(device)
        self.batch = batch
        self._on_cpu = self.device.type == "cpu"
        if self._on_cpu:
            torch.set_num_threads(1)
            cv2.setNumThreads(1)
        self._workers = ThreadPoolExecutor(threads if self._on_cpu else 1, thread_name_prefix="frames")
        if checkpoint.max_size:  # then there is but one size
            network.prepare(self.network_size(checkpoint.max_size))

    def network_size(self, operating_size: int) -> tuple[int, int]:
        """(height, width) at which the network sees a frame: as asked, clamped by an embedded checkpoint."""
        side = min(operating_size, self.checkpoint.max_size or operating_size)
        return side, side

    def cut_out(self, frames: Frames, options: CutOptions, cancelled: Callable[[], bool]) -> Cutout:
        """Raises InferenceFailed, or JobCancelled when `cancelled()` turns true between batches."""
        started = time.perf_counter()
        size = self.network_size(options.operating_size)
        self.network.prepare(size)
        step = 1 if self._on_cpu else max(1, self.batch * REFERENCE_PIXELS // (size[0] * size[1]))
        sheet = OutputBuffers.blank(len(frames), options)

        def work(first: int) -> None:
            if cancelled():
                raise JobCancelled("cancelled while segmenting")
            self._batch(frames, slice(first, first + step), options, size, sheet)

        try:
            list(self._workers.map(work, range(0, len(frames), step)))
        except (RuntimeError, ValueError) as error:
            raise InferenceFailed(f"segmentation failed on {self.device}: {error}") from error
        return Cutout(
            colour=replace(frames, planes=sheet.planes, layout=options.layout),
            matte=sheet.matte,
            provenance=Provenance(self.checkpoint.name, str(self.device), self.network.name, size),
            seconds=time.perf_counter() - started,
        )

    @torch.inference_mode()
    def _batch(
        self, frames: Frames, rows: slice, options: CutOptions, size: tuple[int, int], sheet: OutputBuffers
    ) -> None:
        """Compute the frames `rows` and write them to `sheet`."""
        layout = frames.layout
        planes = tuple(self._tensor(plane[rows]) for plane in frames.planes)
        rgb = to_rgb(planes, layout)
        sdr = to_sdr(rgb, layout, options.peak_nits)
        matte = to_matte(self.network(to_network(sdr, size)), (layout.height, layout.width))
        if options.snap_matte:
            matte = snap_ends(matte)
        if layout.alpha:  # what the source hides stays hidden
            own = planes[3].float()[:, None] / ((1 << layout.depth) - 1)
            matte = (matte * own).round().to(torch.uint8)
        target = options.layout
        if (target.primaries, target.transfer) != (layout.primaries, layout.transfer):
            rgb = sdr
        colour, size = self._colour(rgb, matte, options), (target.height, target.width)
        if tuple(matte.shape[-2:]) != size:
            colour, matte = resized(colour, matte, size)
        made: tuple[Tensor, ...] = from_rgb(colour, target)
        straight = not options.refine_foreground and not options.over_black  # then no colour changes at all
        opaque = torch.ones_like(matte, dtype=torch.bool) if straight else matte == 255
        made = keep_source(made, target, planes[:3], layout, opaque.squeeze(1))
        for kept, plane in zip(sheet.planes, made, strict=True):
            kept[rows] = plane.cpu().numpy()
        sheet.matte[rows] = matte.squeeze(1).cpu().numpy()

    def _colour(self, rgb: Tensor, matte: Tensor, options: CutOptions) -> Tensor:
        """The subject's colour: estimated, and over black where the output has no alpha."""
        alpha = matte.float() / 255
        if options.refine_foreground:
            estimate = estimate_where_needed if self._on_cpu else estimate_foreground
            rgb = estimate(rgb, alpha)
        return rgb * alpha if options.over_black else rgb

    def _tensor(self, plane: Plane) -> Tensor:
        """A copy on the device (what arrives is read-only); 10-bit samples as int16."""
        signed = plane.view(np.int16) if plane.dtype == np.uint16 else plane
        return torch.tensor(signed, device=self.device)


def make_engine(variant: Variant, settings: SegmenterSettings) -> CutoutEngine:
    """The engine of a variant as its settings describe it. Raises CheckpointError."""
    checkpoint = find(VARIANTS[variant].source(settings.checkpoint), settings)
    network = make_network(checkpoint, settings)
    return CutoutEngine(checkpoint, network, settings.device, settings.batch, settings.threads)


def to_network(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """N 3 H W float32, 0..1, to normalised network input of `size` = (height, width).

    The aspect ratio is not kept: plain stretching is how the checkpoints were trained.
    """
    if tuple(rgb.shape[-2:]) != size:
        rgb = F.interpolate(rgb, size=size, mode="bilinear", antialias=True, align_corners=False)
    mean = torch.tensor(MEAN, device=rgb.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=rgb.device).view(1, 3, 1, 1)
    return (rgb - mean) / std


def to_matte(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits N 1 h w to a matte N 1 H W uint8: sigmoid in float32, 8 bits by truncation, bicubic resize."""
    matte = (logits.float().sigmoid() * 255).floor()
    # Rows, then columns, with 8 bits between: the library's own order, in which overshoot is cut off twice.
    for step in ((matte.shape[-2], size[1]), size):
        if tuple(matte.shape[-2:]) != step:
            matte = F.interpolate(matte, size=step, mode="bicubic", antialias=True, align_corners=False)
            matte = matte.round().clamp(0, 255)
    return matte.to(torch.uint8)
