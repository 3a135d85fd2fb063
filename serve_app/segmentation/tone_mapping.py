"""HDR and wide gamut to what BT.709 screens show, on tensors: what the network sees, and every 8-bit output.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67) are those of ITU-R BT.2100-2. HLG is rendered for its nominal display of
1000 cd/m², gamma 1.2. Tones: the EETF of ITU-R BT.2390-10, 5.4.1, from the source's peak to 203 cd/m², which is
reference white (ITU-R BT.2408) and becomes 1.0. It is applied to the largest component, and the others are scaled
alike, so that hues stay. Colours: BT.2020 or P3 to BT.709 by matrix in linear light (ITU-R BT.2087), cut off at the
gamut's edge. The result is coded for the display of ITU-R BT.1886, a power of 2.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from serve_app.picture import PQ, UNKNOWN_PEAK, PixelLayout

WHITE = 203.0  # cd/m²
GAMMA = 2.4
_BRIGHTEST = 10_000.0  # cd/m² of a PQ signal of 1
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # of HLG
_HLG_GAMMA = 1.2
_LUMINANCE = (0.2627, 0.6780, 0.0593)  # of BT.2020's primaries

_FROM_BT2020 = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
_FROM_P3 = (
    (1.224940, -0.224940, 0.0),
    (-0.042057, 1.042057, 0.0),
    (-0.019638, -0.078636, 1.098274),
)
_TO_BT709 = {9: _FROM_BT2020, 12: _FROM_P3}  # by code point of the primaries


def to_sdr(rgb: Tensor, layout: PixelLayout, peak_nits: float) -> Tensor:
    """N 3 H W float32, 0..1, as `layout` codes it, to the same as BT.709 codes it; the same tensor where it does.

    peak_nits: the luminance to which a PQ source makes use of its range, in cd/m².
    """
    if layout.hdr:
        pq = layout.transfer == PQ
        light = pq_to_nits(rgb) if pq else hlg_to_nits(rgb)
        light = light * _compression(light, peak_nits if pq else UNKNOWN_PEAK) / WHITE
        matrix = _TO_BT709.get(layout.primaries, _FROM_BT2020)
    elif layout.primaries in _TO_BT709:
        light, matrix = rgb**GAMMA, _TO_BT709[layout.primaries]
    else:
        return rgb
    mixed = torch.einsum("ij,njhw->nihw", torch.tensor(matrix, device=rgb.device), light)
    return mixed.clamp_(0, 1).pow_(1 / GAMMA)


def pq_to_nits(signal: Tensor) -> Tensor:
    """The EOTF of ST 2084: 0..1 to cd/m²."""
    root = signal ** (1 / _M2)
    return _BRIGHTEST * ((root - _C1).clamp_(0) / (_C2 - _C3 * root)) ** (1 / _M1)


def nits_to_pq(nits: Tensor) -> Tensor:
    """The inverse of `pq_to_nits`."""
    power = (nits / _BRIGHTEST) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_nits(signal: Tensor) -> Tensor:
    """The inverse OETF of HLG, and the OOTF of its nominal display: N 3 H W, 0..1, to cd/m²."""
    scene = torch.where(signal <= 0.5, signal**2 / 3, (((signal - _C) / _A).exp() + _B) / 12)
    weights = torch.tensor(_LUMINANCE, device=signal.device).view(1, 3, 1, 1)
    luminance = (scene * weights).sum(1, keepdim=True)
    return UNKNOWN_PEAK * luminance ** (_HLG_GAMMA - 1) * scene


def _compression(light: Tensor, peak_nits: float) -> Tensor:
    """N 1 H W: by how much the EETF dims each pixel of `light` [cd/m²]."""
    source, target = nits_to_pq(torch.tensor([max(peak_nits, WHITE), WHITE])).tolist()
    largest = light.amax(1, keepdim=True)
    signal = (nits_to_pq(largest) / source).clamp_(max=1)
    ceiling = target / source
    knee = 1.5 * ceiling - 0.5
    if knee >= 1:
        return torch.ones_like(largest).where(largest <= WHITE, WHITE / largest)
    t = (signal - knee) / (1 - knee)
    bent = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * ceiling
    )
    mapped = pq_to_nits(torch.where(signal < knee, signal, bent) * source)
    return torch.where(signal < knee, torch.ones_like(mapped), mapped / largest.clamp(min=1e-6))
