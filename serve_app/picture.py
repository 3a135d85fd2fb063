"""Pixel formats, orientation and HDR metadata of the frames that the stages exchange.

Code points are those of ISO/IEC 23091-2 (ITU-T H.273).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from serve_app.arrays import check_frames

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Ticks = npt.NDArray[np.int64]

BT709, BT2020 = 1, 9  # colour primaries
BT709_TRANSFER, PQ, HLG = 1, 16, 18  # transfer characteristics

UNKNOWN_PEAK = 1000.0  # cd/m²; the usual mastering display, and the nominal peak of HLG (ITU-R BT.2100)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a decoded picture becomes upright: cropped, mirrored left to right, then rotated.

    crop: (left, right, top, bottom) in samples, from the container.
    rotation: clockwise, in degrees.
    """

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    mirrored: bool = False
    rotation: Literal[0, 90, 180, 270] = 0

    @property
    def sideways(self) -> bool:
        """Whether the rotation swaps width and height."""
        return self.rotation in (90, 270)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static HDR metadata in the units of ITU-T H.265, D.3.28 and D.3.35. Fields that the source lacks are None.

    chromaticities: x and y of red, green, blue and white, in steps of 0.00002.
    luminance: (maximum, minimum) of the mastering display, in steps of 0.0001 cd/m².
    light: (MaxCLL, MaxFALL) in cd/m².
    """

    chromaticities: tuple[int, ...] | None = None
    luminance: tuple[int, int] | None = None
    light: tuple[int, int] | None = None

    @property
    def peak_nits(self) -> float:
        """The peak luminance in cd/m²: MaxCLL, or else the mastering display's maximum, or else `UNKNOWN_PEAK`."""
        if self.light and self.light[0]:
            return float(self.light[0])
        if self.luminance and self.luminance[0]:
            return self.luminance[0] / 10_000
        return UNKNOWN_PEAK


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The planes of a frame and their colour encoding. Chroma sizes are rounded up.

    depth: 8-bit samples are uint8; 10-bit samples are uint16, 0..1023.
    matrix: "rgb" for planes R, G, B (always full range, 4:4:4); otherwise the matrix of planes Y, Cb, Cr.
    alpha: whether a full-size, full-range alpha plane of the same depth follows (0 = transparent).
    primaries, transfer: code points (2 = unspecified), copied to the tags of the output.
    """

    width: int
    height: int
    subsampling: Literal["420", "422", "444"] = "420"
    depth: Literal[8, 10] = 8
    matrix: Literal["bt601", "bt709", "bt2020", "rgb"] = "bt709"
    full_range: bool = False
    chroma_site: Literal["left", "center", "topleft"] = "left"
    alpha: bool = False
    primaries: int = 2
    transfer: int = 2

    @property
    def hdr(self) -> bool:
        """Whether the transfer is PQ (SMPTE ST 2084) or HLG (ARIB STD-B67), as in ITU-R BT.2100."""
        return self.transfer in (PQ, HLG)

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(height, width) of one chroma plane."""
        down = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}[self.subsampling]
        return -(-self.height // down[0]), -(-self.width // down[1])

    @property
    def plane_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane in order, including the alpha plane."""
        luma = (self.height, self.width)
        return (luma, self.chroma_size, self.chroma_size) + ((luma,) if self.alpha else ())

    @property
    def sample_type(self) -> type[np.unsignedinteger[Any]]:
        return np.uint8 if self.depth == 8 else np.uint16

    @property
    def frame_bytes(self) -> int:
        return sum(h * w for h, w in self.plane_sizes) * np.dtype(self.sample_type).itemsize


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one chunk: an array [N, H, W] for each plane of `layout`.

    pts: [N] int64, ascending presentation times in ticks of `time_base`.
    damage: PTS at which the decoder reported damage; the frames there may be missing or wrong.

    Raises ValueError or TypeError for arrays that do not fit the layout, but not when unpickled in another process.
    """

    planes: tuple[Plane, ...]
    layout: PixelLayout
    pts: Ticks
    time_base: Fraction
    damage: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_frames(self.planes, self.layout.plane_sizes, self.layout.sample_type, self.pts)

    def __len__(self) -> int:
        return len(self.pts)


def even(layout: PixelLayout) -> PixelLayout:
    """The layout with width and height rounded up to even numbers, as H.264 4:2:0 requires."""
    return replace(layout, width=layout.width + layout.width % 2, height=layout.height + layout.height % 2)
