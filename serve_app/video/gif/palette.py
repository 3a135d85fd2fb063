"""Derives one palette for a whole video from the colour histograms of its pieces.

All decisions use integers, or floats that represent them exactly, so the same histogram gives the same palette on all
machines.
"""

from __future__ import annotations

import heapq
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_BITS = 6  # of each channel that select the bin
BINS = 1 << 3 * _BITS
_ROUNDS = 4  # of refinement; after that the error falls by less than a percent
_ROWS = 8192  # points compared at a time, to limit memory

Bytes: TypeAlias = npt.NDArray[np.uint8]
Colours: TypeAlias = npt.NDArray[np.uint8]  # [n, 3]: R, G, B
Counts: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int64]


def bins_of(red: Bytes, green: Bytes, blue: Bytes) -> npt.NDArray[np.int32]:
    """The bin of each pixel."""
    cut = 8 - _BITS
    wide = (red >> cut).astype(np.int32)
    wide <<= _BITS
    wide |= green >> cut
    wide <<= _BITS
    wide |= blue >> cut
    return wide


def middles(bins: npt.NDArray[np.int32]) -> Numbers:
    """The colour in the middle of each bin, [n, 3]."""
    cut, side = 8 - _BITS, 1 << _BITS
    parts = [bins >> 2 * _BITS, bins >> _BITS, bins]
    return np.stack([(part % side << cut) + (1 << cut >> 1) for part in parts], 1).astype(np.int64)


class Histogram:
    """Counts the pixels in each bin, and sums up their channels, so that the mean of a bin is exact."""

    def __init__(self) -> None:
        self.counts: Counts = np.zeros((4, BINS), np.int64)  # pixels, and the sums of R, G and B

    def add(self, red: Bytes, green: Bytes, blue: Bytes) -> None:
        """Count pixels, given as three one-dimensional arrays."""
        bins = bins_of(red, green, blue)
        self.counts[0] += np.bincount(bins, minlength=BINS)
        for row, channel in enumerate((red, green, blue), start=1):
            self.counts[row] += np.bincount(bins, channel, BINS).astype(np.int64)

    def packed(self) -> Numbers:
        """The non-empty bins, one per column: number, pixels, sums."""
        full = np.flatnonzero(self.counts[0])
        return np.vstack((full, self.counts[:, full]))

    def add_packed(self, columns: Numbers) -> None:
        """Add the result of `packed` of another histogram."""
        self.counts[:, columns[0]] += columns[1:]

    def means(self) -> tuple[Numbers, Numbers, Numbers]:
        """The non-empty bins, their pixel counts, and their mean colours [n, 3]."""
        full = np.flatnonzero(self.counts[0])
        pixels, sums = self.counts[0, full], self.counts[1:, full]
        return full, pixels, np.ascontiguousarray(((sums + pixels // 2) // pixels).T)


def make_palette(histogram: Histogram, size: int) -> Colours:
    """A palette of at most `size` colours: repeatedly splits the box of colours with the largest deviation, then moves
    each colour to the mean of the pixels nearest to it (k-means).
    """
    full, pixels, points = histogram.means()
    if not len(full):
        return np.zeros((1, 3), np.uint8)  # no visible pixels
    counts = histogram.counts[:, full]
    boxes = _cut(points, pixels, size)
    palette = _means(counts, boxes, int(boxes.max()) + 1)
    for _ in range(_ROUNDS):
        moved = _means(counts, nearest(points, palette), len(palette), palette)
        if np.array_equal(moved, palette):
            break
        palette = moved
    return palette


def _cut(points: Numbers, weights: Numbers, size: int) -> Numbers:
    """The number of the box of each point."""
    boxes = np.zeros(len(points), np.int64)
    heap = [_box(0, points, weights, np.arange(len(points)))]
    count = 1
    while count < size and heap:
        spread, number, axis, members = heapq.heappop(heap)
        if not spread:
            break  # all boxes hold one colour
        values, weight = points[members, axis], weights[members]
        low = values * int(weight.sum()) <= int((values * weight).sum())  # split at the mean
        boxes[members[~low]] = count
        heapq.heappush(heap, _box(number, points, weights, members[low]))
        heapq.heappush(heap, _box(count, points, weights, members[~low]))
        count += 1
    return boxes


def _box(number: int, points: Numbers, weights: Numbers, members: Numbers) -> tuple[int, int, int, Numbers]:
    """A heap entry: (negative squared deviation along its longest axis, number, that axis, members)."""
    weight = weights[members]
    total = int(weight.sum())
    spreads = []
    for axis in range(3):
        values = points[members, axis]
        first = weight * values
        spreads.append(int((first * values).sum()) - int(first.sum()) ** 2 // total)
    axis = max(range(3), key=spreads.__getitem__)
    return -spreads[axis], number, axis, members


def _means(counts: Counts, groups: Numbers, size: int, default: Colours | None = None) -> Colours:
    """The mean colour of each group, or its `default` if empty."""
    pixels, *sums = (np.bincount(groups, column, size) for column in counts)
    means = np.stack([np.floor(total / np.maximum(pixels, 1) + 0.5) for total in sums], 1).astype(np.uint8)
    if default is not None:
        means[pixels == 0] = default[pixels == 0]
    return means


def nearest(points: Numbers, palette: Colours) -> Numbers:
    """The index of the palette's colour nearest to each point [n, 3]; the first if several are."""
    colours = palette.astype(np.float32)
    squares = (colours * colours).sum(1)
    chosen = np.empty(len(points), np.int64)
    for start in range(0, len(points), _ROWS):
        rows = slice(start, start + _ROWS)
        chosen[rows] = np.argmin(squares - 2 * (points[rows].astype(np.float32) @ colours.T), axis=1)
    return chosen
