"""Planes to RGB and back, on tensors: matrices and ranges of ITU-T H.273, chroma sited as the layout says.

Imports torch but not PyAV: it runs in the segmenter, on its device. 10-bit samples are int16 here (torch has
few operations for uint16), which holds them whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from serve_app.picture import PixelLayout

# (Kr, Kb) of H.273 table 4.
LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def _pairs(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Even and odd samples along `dim`; an odd end repeats its border."""
    if x.shape[dim] % 2:
        x = torch.cat((x, x.narrow(dim, x.shape[dim] - 1, 1)), dim=dim)
    index = (slice(None),) * dim
    return x[(*index, slice(0, None, 2))], x[(*index, slice(1, None, 2))]


def _levels(layout: PixelLayout) -> tuple[float, float, float, float]:
    """(luma offset, luma span, chroma centre, chroma span) in sample values."""
    scale = 1 << (layout.depth - 8)
    if layout.full_range:
        top = (1 << layout.depth) - 1
        return 0.0, float(top), 128.0 * scale, float(top)
    return 16.0 * scale, 219.0 * scale, 128.0 * scale, 224.0 * scale


def _sited_on_luma(layout: PixelLayout) -> tuple[bool, bool]:
    """(vertically, horizontally): chroma samples lie on luma samples, or halfway between two."""
    return layout.chroma_site == "topleft", layout.chroma_site in ("left", "topleft")


def _shift(x: Tensor, dim: int, by: int) -> Tensor:
    """The neighbour `by` (1 or -1) further along `dim`, the border repeated."""
    size = x.shape[dim]
    edge = x.narrow(dim, size - 1 if by > 0 else 0, 1)
    inner = x.narrow(dim, 1 if by > 0 else 0, size - 1)
    return torch.cat((inner, edge) if by > 0 else (edge, inner), dim=dim)


def _double(x: Tensor, dim: int, size: int, on_luma: bool) -> Tensor:
    """Linear upsampling by two along `dim`, cut to `size`."""
    after = _shift(x, dim, 1)
    if on_luma:
        pair = (x, (x + after) * 0.5)
    else:
        pair = (x * 0.75 + _shift(x, dim, -1) * 0.25, x * 0.75 + after * 0.25)
    return torch.stack(pair, dim=dim + 1).flatten(dim, dim + 1).narrow(dim, 0, size)


def _halve(x: Tensor, dim: int, on_luma: bool) -> Tensor:
    """Downsampling by two along `dim`."""
    even, odd = _pairs(x, dim)
    if on_luma:
        return even * 0.5 + (odd + _shift(odd, dim, -1)) * 0.25
    return (even + odd) * 0.5


def to_rgb(planes: tuple[Tensor, ...], layout: PixelLayout) -> Tensor:
    """Colour planes [N, H, W] (integers; an alpha plane is ignored) to N 3 H W float32, 0..1, clamped."""
    first, second, third = (plane.float() for plane in planes[:3])
    if layout.matrix == "rgb":
        return torch.stack((first, second, third), dim=1) / ((1 << layout.depth) - 1)
    offset, span, centre, chroma_span = _levels(layout)
    on_luma = _sited_on_luma(layout)
    y = first.sub_(offset).div_(span)
    chroma = []
    for plane in (second, third):
        c = plane.sub_(centre).div_(chroma_span)
        if layout.subsampling == "420":
            c = _double(c, 1, layout.height, on_luma[0])
        if layout.subsampling in ("420", "422"):
            c = _double(c, 2, layout.width, on_luma[1])
        chroma.append(c)
    kr, kb = LUMA_WEIGHTS[layout.matrix]
    kg = 1 - kr - kb
    cb, cr = chroma
    rgb = y.new_empty((len(y), 3, layout.height, layout.width))
    torch.add(y, cr, alpha=2 * (1 - kr), out=rgb[:, 0])
    torch.add(y, cb, alpha=2 * (1 - kb), out=rgb[:, 2])
    torch.add(y, cb, alpha=-2 * (1 - kb) * kb / kg, out=rgb[:, 1])
    rgb[:, 1].sub_(cr, alpha=2 * (1 - kr) * kr / kg)
    return rgb.clamp_(0, 1)


def _quantise(x: Tensor, depth: int) -> Tensor:
    top = (1 << depth) - 1
    return x.round().clamp_(0, top).to(torch.uint8 if depth == 8 else torch.int16)


def from_rgb(rgb: Tensor, layout: PixelLayout) -> tuple[Tensor, Tensor, Tensor]:
    """N 3 H W float32, 0..1, to three planes [N, H, W]: uint8, or int16 holding 10-bit values."""
    red, green, blue = rgb.unbind(1)
    if layout.matrix == "rgb":
        top = (1 << layout.depth) - 1
        r, g, b = (_quantise(c * top, layout.depth) for c in (red, green, blue))
        return r, g, b
    kr, kb = LUMA_WEIGHTS[layout.matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    offset, span, centre, chroma_span = _levels(layout)
    on_luma = _sited_on_luma(layout)
    chroma = []
    for colour, weight in ((blue, kb), (red, kr)):
        c = (colour - y) * (chroma_span / (2 * (1 - weight)))
        if layout.subsampling == "420":
            c = _halve(c, 1, on_luma[0])
        if layout.subsampling in ("420", "422"):
            c = _halve(c, 2, on_luma[1])
        chroma.append(_quantise(c + centre, layout.depth))
    return _quantise(y * span + offset, layout.depth), chroma[0], chroma[1]


def requantise(plane: Tensor, source_depth: int, depth: int) -> Tensor:
    """The same levels at another bit depth (limited and full range alike, to rounding)."""
    if source_depth == depth:
        return plane
    return _quantise(plane.float() * 2.0 ** (depth - source_depth), depth)


def opaque_blocks(opaque: Tensor, layout: PixelLayout) -> Tensor:
    """[N, H, W] bool to chroma size: true where every luma sample of the block is opaque."""
    for dim, halved in ((1, layout.subsampling == "420"), (2, layout.subsampling in ("420", "422"))):
        if halved:
            even, odd = _pairs(opaque, dim)
            opaque = even & odd
    return opaque


def _colours(layout: PixelLayout) -> tuple[object, ...]:
    """What must agree for a sample to mean the same in two layouts."""
    return (
        layout.width, layout.height, layout.matrix, layout.full_range, layout.primaries, layout.transfer,
    )  # fmt: skip


def keep_source(
    made: tuple[Tensor, ...],
    layout: PixelLayout,
    source: tuple[Tensor, ...],
    source_layout: PixelLayout,
    opaque: Tensor,
) -> tuple[Tensor, ...]:
    """`made` with the source's own samples where the matte is opaque, so that they survive bit by bit.

    Luma wherever size, matrix, range and colours agree; chroma where every sample of its block is opaque and the
    subsampling agrees too. `opaque`: [N, H, W] bool.
    """
    if _colours(layout) != _colours(source_layout):
        return made
    kept = [torch.where(opaque, requantise(source[0], source_layout.depth, layout.depth), made[0])]
    if layout.subsampling != source_layout.subsampling:
        return (kept[0], *made[1:])
    blocks = opaque_blocks(opaque, layout)
    for plane, own in zip(made[1:], source[1:3], strict=True):
        kept.append(torch.where(blocks, requantise(own, source_layout.depth, layout.depth), plane))
    return tuple(kept)
