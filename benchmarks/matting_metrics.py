"""Measures of mattes against the truth, all of N x H x W in 0..1. Less is better, but for the S- and the E-measure.

MAD, MSE, Grad, Conn: Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR 2009.
dtSSD: Erofeev et al., "Perceptually motivated benchmark for video matting", BMVC 2015.
S-measure: Fan et al., "Structure-measure", ICCV 2017. E-measure: Fan et al., "Enhanced-alignment measure", IJCAI 2018.
The scales are those in which matting papers report: MAD and MSE in thousandths, Grad and Conn in thousands per frame,
dtSSD in hundredths. The packages that compute these bind numpy to versions before the one used here.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

GRADIENT_SIGMA = 1.4
EPSILON = 1e-8


def mad(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference; MAE of the literature on salient objects times a thousand."""
    return float(np.abs(found - truth).mean()) * 1e3


def mse(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.square(found - truth).mean()) * 1e3


def gradient(found: np.ndarray, truth: np.ndarray) -> float:
    """Squared difference of the magnitudes of Gaussian derivatives, summed over a frame."""
    return (
        float(np.mean([np.square(_slope(f) - _slope(t)).sum() for f, t in zip(found, truth, strict=True)]))
        / 1e3
    )


def _slope(matte: np.ndarray) -> np.ndarray:
    reach = int(3 * GRADIENT_SIGMA + 0.5)
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * GRADIENT_SIGMA**2))
    derived = -x * smooth
    smooth, derived = smooth / np.sqrt((smooth**2).sum()), derived / np.sqrt((derived**2).sum())
    across = cv2.sepFilter2D(matte, cv2.CV_64F, derived, smooth, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(matte, cv2.CV_64F, smooth, derived, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


def connectivity(found: np.ndarray, truth: np.ndarray) -> float:
    """Difference in how far each pixel hangs together with the largest region that both call opaque, per frame."""
    return float(np.mean([_disconnected(f, t) for f, t in zip(found, truth, strict=True)])) / 1e3


def _disconnected(found: np.ndarray, truth: np.ndarray) -> float:
    reached = np.full(found.shape, -1.0)
    levels = np.arange(0.0, 1.01, 0.1)
    for lower, level in pairwise(levels):
        both = ((found >= level) & (truth >= level)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        largest = np.zeros(found.shape, bool)
        if count > 1:
            largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        reached[(reached == -1) & ~largest] = lower
    reached[reached == -1] = 1.0

    def share(matte: np.ndarray) -> np.ndarray:
        apart = matte - reached
        return np.asarray(1 - apart * (apart >= 0.15))

    return float(np.abs(share(found) - share(truth)).sum())


def dtssd(found: np.ndarray, truth: np.ndarray) -> float:
    """Root of the mean squared difference of the changes from frame to frame, averaged over frames."""
    change = np.square(np.diff(found, axis=0) - np.diff(truth, axis=0))
    return float(np.sqrt(change.mean(axis=(1, 2))).mean()) * 1e2


def s_measure(found: np.ndarray, truth: np.ndarray, share: float = 0.5) -> float:
    """Likeness of objects and of regions, `share` of the first; mean over frames."""
    return float(np.mean([_structure(f, t > 0.5, share) for f, t in zip(found, truth, strict=True)]))


def _structure(found: np.ndarray, wanted: np.ndarray, share: float) -> float:
    area = float(wanted.mean())
    if area in (0.0, 1.0):
        return float(found.mean()) if area else 1 - float(found.mean())
    objects = area * _object(found[wanted]) + (1 - area) * _object(1 - found[~wanted])
    return max(0.0, share * objects + (1 - share) * _regions(found, wanted.astype(np.float64)))


def _object(values: np.ndarray) -> float:
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + EPSILON)


def _regions(found: np.ndarray, wanted: np.ndarray) -> float:
    """Similarity of the four quarters around the centre of the subject, weighted by their areas."""
    ys, xs = np.nonzero(wanted)
    y, x = round(float(ys.mean())) + 1, round(float(xs.mean())) + 1
    total = 0.0
    for rows in (slice(None, y), slice(y, None)):
        for columns in (slice(None, x), slice(x, None)):
            part = wanted[rows, columns]
            if part.size:
                total += _similarity(found[rows, columns], part) * part.size / wanted.size
    return total


def _similarity(a: np.ndarray, b: np.ndarray) -> float:
    count = max(1, a.size - 1)
    means = float(a.mean()), float(b.mean())
    spread = float(((a - means[0]) ** 2).sum() + ((b - means[1]) ** 2).sum()) / count
    together = float(((a - means[0]) * (b - means[1])).sum()) / count
    above = 4 * means[0] * means[1] * together
    below = (means[0] ** 2 + means[1] ** 2) * spread
    if above:
        return above / (below + EPSILON)
    return 0.0 if below else 1.0


def e_measure(found: np.ndarray, truth: np.ndarray) -> float:
    """Enhanced alignment, with the matte cut at twice its mean; mean over frames."""
    return float(np.mean([_alignment(f, t > 0.5) for f, t in zip(found, truth, strict=True)]))


def _alignment(found: np.ndarray, wanted: np.ndarray) -> float:
    cut = found >= min(1.0, 2 * float(found.mean()))
    if not found.any():
        cut = np.zeros_like(wanted)
    area = float(wanted.mean())
    if area in (0.0, 1.0):
        return float((cut == wanted).mean())
    a, b = cut - float(cut.mean()), wanted - area
    aligned = 2 * a * b / (a**2 + b**2 + EPSILON)
    return float(np.square(aligned + 1).mean()) / 4


MEASURES = {
    "mad": mad,
    "mse": mse,
    "grad": gradient,
    "conn": connectivity,
    "dtssd": dtssd,
    "s_measure": s_measure,
    "e_measure": e_measure,
}
