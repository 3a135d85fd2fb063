"""Colours by the formulas of the standards, in float64 and one at a time: what the stages are measured against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
PQ, HLG = 16, 18
# Chromaticities (x, y) of red, green, blue: ITU-R BT.709-6, BT.2020-2, SMPTE EG 432-1. White is D65 in all.
PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
D65 = (0.3127, 0.3290)


def decode(codes: tuple[float, ...], matrix: int, full: bool, depth: int) -> Any:
    """Y'CbCr codes to R'G'B' (ITU-T H.273, 8.3); matrix 0 means codes of R, G, B."""
    top, scale = 2**depth - 1, 2 ** (depth - 8)
    if matrix == 0:
        return np.array(codes) / top
    kr, kb = WEIGHTS[matrix]
    luma = codes[0] / top if full else (codes[0] / scale - 16) / 219
    blue, red = ((c - 128 * scale) / top if full else (c / scale - 128) / 224 for c in codes[1:3])
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return np.clip([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], 0, 1)


def encode(rgb: np.ndarray, matrix: int, full: bool, depth: int) -> Any:
    """R'G'B' to Y'CbCr codes, not rounded; matrix 0 means codes of R, G, B."""
    top, scale = 2**depth - 1, 2 ** (depth - 8)
    if matrix == 0:
        return rgb * top
    kr, kb = WEIGHTS[matrix]
    luma = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    chroma = np.array([(rgb[2] - luma) / (2 * (1 - kb)), (rgb[0] - luma) / (2 * (1 - kr))])
    if full:
        return np.array([luma * top, *(chroma * top + 128 * scale)])
    return np.array([(luma * 219 + 16) * scale, *((chroma * 224 + 128) * scale)])


def gamut(source: int, target: int = 1) -> Any:
    """The matrix from linear RGB of one set of primaries to that of another (SMPTE RP 177)."""

    def to_xyz(primaries: int) -> Any:
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[primaries]]).T
        white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
        return columns * np.linalg.solve(columns, white)

    return np.linalg.solve(to_xyz(target), to_xyz(source))


def pq_eotf(signal: float) -> Any:
    """SMPTE ST 2084, cd/m²."""
    root = signal ** (4096 / (2523 * 128))
    return 10000 * (max(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)


def pq_inverse(nits: float) -> Any:
    power = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 * 128 / 4096)


def hlg_display(signal: np.ndarray) -> Any:
    """ITU-R BT.2100-2, table 5: inverse OETF, then OOTF for 1000 cd/m²."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * math.log(4 * a)
    scene = np.array([e * e / 3 if e <= 0.5 else (math.exp((e - c) / a) + b) / 12 for e in signal])
    return 1000 * float(scene @ (0.2627, 0.6780, 0.0593)) ** 0.2 * scene


def eetf(signal: float, source_peak: float, target_peak: float) -> Any:
    """ITU-R BT.2390-10, 5.4.1, black at 0: a PQ signal to a PQ signal."""
    top = pq_inverse(source_peak)
    e1, ceiling = min(signal / top, 1), pq_inverse(target_peak) / top
    knee = 1.5 * ceiling - 0.5
    if e1 < knee or knee >= 1:
        return e1 * top
    t = (e1 - knee) / (1 - knee)
    p = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * ceiling
    )
    return p * top


def sdr(rgb: np.ndarray, primaries: int, transfer: int, peak: float) -> Any:
    """R'G'B' of any source to R'G'B' of BT.709 on the display of BT.1886; the same where it is that already."""
    if transfer in (PQ, HLG):
        nits = np.array([pq_eotf(e) for e in rgb]) if transfer == PQ else hlg_display(rgb)
        largest = max(nits.max(), 1e-9)
        light = nits * pq_eotf(eetf(pq_inverse(largest), peak, 203)) / largest / 203
    elif primaries in (9, 12):
        light = rgb**2.4
    else:
        return rgb
    return np.clip(gamut(primaries) @ light, 0, 1) ** (1 / 2.4)
