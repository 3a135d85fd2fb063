"""Maps pictures to the colours of a palette, with ordered dithering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from serve_app.video.gif.palette import BINS, Bytes, Colours, Histogram, bins_of, middles, nearest

_BAYER = np.array(
    [
        [0, 32, 8, 40, 2, 34, 10, 42],
        [48, 16, 56, 24, 50, 18, 58, 26],
        [12, 44, 4, 36, 14, 46, 6, 38],
        [60, 28, 52, 20, 62, 30, 54, 22],
        [3, 35, 11, 43, 1, 33, 9, 41],
        [51, 19, 59, 27, 49, 17, 57, 25],
        [15, 47, 7, 39, 13, 45, 5, 37],
        [63, 31, 55, 23, 61, 29, 53, 21],
    ]
)  # 8 x 8 ordered dithering
_REACH = (1, 2, 4)  # distances over which a colour spreads to the right
_UNKNOWN = -1

Planes = Sequence[Bytes]  # R, G, B


class Painter:
    """Maps pixels to palette indices with a lookup table of binned colours.

    Of `options`, "dither" is the amplitude of the dithering pattern, and "slack" the error beyond that of the nearest
    colour which a pixel may have to equal its left neighbour, as this compresses better. Both are relative to the
    palette's own error, so they decrease with better palettes.
    """

    def __init__(self, palette: Colours, histogram: Histogram, options: Mapping[str, str]) -> None:
        self._palette = palette
        self._channels = [np.ascontiguousarray(column) for column in palette.T.astype(np.float32)]
        full, pixels, means = histogram.means()
        self._table = np.full(BINS, _UNKNOWN, np.int16)
        self._table[full] = nearest(means, palette)
        gaps = means - palette[self._table[full]]
        squares = int(((gaps * gaps).sum(1) * pixels).sum()) / max(1, 3 * int(pixels.sum()))
        height = 2 * float(options["dither"]) * squares**0.5
        self._pattern = np.rint((_BAYER / 63 - 0.5) * height).astype(np.int16) if height else None
        self._slack = round(float(options["slack"]) ** 2 * squares * 3)

    def paint(self, rgb: Planes, corner: tuple[int, int]) -> Bytes:
        """Palette indices for three planes whose first pixel is at `corner` (row, column) of the picture, to which the
        dithering pattern is aligned.
        """
        dithered = rgb if self._pattern is None else _dithered(rgb, self._pattern, corner)
        indices = self._looked_up(bins_of(*dithered))
        return self._smoothed(indices, rgb) if self._slack else indices

    def _looked_up(self, bins: npt.NDArray[np.int32]) -> Bytes:
        found = self._table[bins]
        unknown = found == _UNKNOWN
        if unknown.any():  # dithered or invisible pixels may fall into bins without counted pixels
            new = np.unique(bins[unknown])
            self._table[new] = nearest(middles(new), self._palette)
            found = self._table[bins]
        return found.astype(np.uint8)

    def _smoothed(self, indices: Bytes, rgb: Planes) -> Bytes:
        """Give pixels the colour of one to their left, if the extra error is within the slack."""
        allowed = self._distance(indices, rgb) + self._slack
        for reach in _REACH:
            left = indices[:, :-reach]
            fits = self._distance(left, [plane[:, reach:] for plane in rgb]) <= allowed[:, reach:]
            moved = indices.copy()
            np.copyto(moved[:, reach:], left, where=fits)
            indices = moved
        return indices

    def _distance(self, indices: Bytes, rgb: Planes) -> npt.NDArray[np.float32]:
        total = np.zeros(indices.shape, np.float32)  # whole numbers below 2 ** 24: exact
        for channel, plane in zip(self._channels, rgb, strict=True):
            gap = channel[indices]
            gap -= plane
            gap *= gap
            total += gap
        return total


def _dithered(rgb: Planes, pattern: npt.NDArray[np.int16], corner: tuple[int, int]) -> Planes:
    """The planes with the pattern added."""
    height, width = rgb[0].shape
    rows, columns = (np.arange(n) + at for n, at in zip((height, width), corner, strict=True))
    offsets = pattern[np.ix_(rows % 8, columns % 8)]
    return [np.clip(plane + offsets, 0, 255).astype(np.uint8) for plane in rgb]
