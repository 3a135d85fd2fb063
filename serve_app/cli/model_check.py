"""`birefnet-serve models --check`: checkpoints at hand on the demo clip, in both tile orders, beside stored mattes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.birefnet.configuration import TileOrder
from serve_app.birefnet.tile_orders import TileOrders
from serve_app.birefnet.variants import VARIANTS
from serve_app.cli.contact_sheet import Image, picked_frames, small, stack, write_png
from serve_app.errors import CheckpointError
from serve_app.segmentation.networks import TorchNetwork
from serve_app.segmentation.processing import to_matte, to_network
from serve_app.settings import SegmenterSettings, Settings

FRAMES = [55, 77, 99, 121]  # of the demo clip, whose mattes are stored one below the other
ORDERS: tuple[TileOrder, TileOrder] = ("colour_first", "position_first")
CLEAR = 0.002  # a smaller difference in agreement decides nothing


@dataclass(frozen=True, slots=True)
class Checked:
    """A checkpoint in both orders.

    agreement: mean intersection over union with the stored mattes, both cut at half, by order.
    better: the order that agrees better; None if the difference is too small to tell.
    recorded: it was written down for later loads; not if a configuration beside the weights names the order.
    sheet: PNG with a row for each frame: frame, stored matte, mattes in both orders.
    """

    checkpoint: str
    agreement: dict[TileOrder, float]
    better: TileOrder | None
    recorded: bool
    sheet: Path


def check(settings: Settings, clip: Path, mattes: Path, out: Path, size: int) -> Iterator[Checked]:
    """Run each checkpoint that is on this machine at `size`, clamped as in requests. Nothing is downloaded."""
    frames = [frame for frame, _ in picked_frames(clip, FRAMES)]
    stored = np.split(_grey(mattes), len(FRAMES))
    out.mkdir(parents=True, exist_ok=True)
    for checkpoint, own in _at_hand(settings):
        made = {order: _mattes(checkpoint, own, order, frames, stored[0].shape, size) for order in ORDERS}
        agreement = {order: _agreement(found, stored) for order, found in made.items()}
        order = better(agreement)
        record = order is not None and not checkpoint.own_config
        if order is not None and record:
            assert own.tile_orders is not None, "Settings.segmenter_for names the file"
            TileOrders(own.tile_orders).record(checkpoint.weights, order)
        sheet = out / f"{re.sub(r'[^A-Za-z0-9]+', '-', checkpoint.name).strip('-')}.png"
        _draw(sheet, frames, stored, *made.values())
        yield Checked(checkpoint.name, agreement, order, record, sheet)


def better(agreement: dict[TileOrder, float]) -> TileOrder | None:
    first, second = ORDERS
    gain = agreement[first] - agreement[second]
    if abs(gain) < CLEAR:
        return None
    return first if gain > 0 else second


def _at_hand(settings: Settings) -> Iterator[tuple[Checkpoint, SegmenterSettings]]:
    """Each checkpoint of the profile once, if it is on this machine and fits its network."""
    seen = set()
    for variant, facts in VARIANTS.items():
        own = settings.segmenter_for(variant).model_copy(update={"offline": True})
        try:
            checkpoint = find(facts.source(own.checkpoint), own)
        except CheckpointError:
            continue  # `models` says why
        if checkpoint.weights not in seen:
            seen.add(checkpoint.weights)
            yield checkpoint, own


@torch.inference_mode()
def _mattes(
    checkpoint: Checkpoint,
    settings: SegmenterSettings,
    order: TileOrder,
    frames: list[Image],
    shape: tuple[int, ...],
    size: int,
) -> list[Image]:
    """Mattes [H, W] uint8 of the stored ones' shape, by the network as it is written, in float32."""
    config = deepcopy(checkpoint.config)
    config.tile_order = order
    network = TorchNetwork(replace(checkpoint, config=config), settings.device, torch.float32, compiled=False)
    side = min(size, checkpoint.max_size or size)
    found = []
    for frame in frames:
        rgb = torch.from_numpy(frame.copy()).to(settings.device).permute(2, 0, 1)[None].float() / 255
        matte: Tensor = to_matte(network(to_network(rgb, (side, side))), (shape[0], shape[1]))
        found.append(matte[0, 0].cpu().numpy())
    return found


def _agreement(found: list[Image], stored: list[Image]) -> float:
    """Mean intersection over union; 1 where neither shows anything."""
    shares = []
    for one, other in zip(found, stored, strict=True):
        a, b = one > 127, other > 127
        union = int((a | b).sum())
        shares.append(int((a & b).sum()) / union if union else 1.0)
    return float(np.mean(shares))


def _grey(path: Path) -> Image:
    with av.open(str(path)) as picture:
        frame = next(picture.decode(video=0))
        grey: Image = frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
        return grey


def _draw(out: Path, frames: list[Image], *columns: list[Image]) -> None:
    width = columns[0][0].shape[1]
    rows = []
    for frame, *mattes in zip(frames, *columns, strict=True):
        images = [small(frame, width), *(np.repeat(matte[:, :, None], 3, 2) for matte in mattes)]
        rows.append(stack(images, axis=1))
    write_png(stack(rows, axis=0), out)
