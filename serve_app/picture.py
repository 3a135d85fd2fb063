"""Pictures as the stages see them: how samples become colours, which way is up, and how bright HDR was meant to be.

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

BT709, BT2020 = 1, 9  # of primaries
BT709_TRANSFER, PQ, HLG = 1, 16, 18  # of transfers

UNKNOWN_PEAK = 1000.0  # cd/m²; the usual mastering display, and the nominal peak of HLG (ITU-R BT.2100)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a decoded picture becomes upright: cut by `crop` (left, right, top, bottom samples, as the container
    demands), mirrored left to right, then turned clockwise by `rotation` degrees.
    """

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    mirrored: bool = False
    rotation: Literal[0, 90, 180, 270] = 0

    @property
    def sideways(self) -> bool:
        """Width and height change places."""
        return self.rotation in (90, 270)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """Static HDR metadata in the units of ITU-T H.265, D.3.28 and D.3.35; None where the source has none.

    `chromaticities`: x and y of red, green, blue and white, in steps of 0.00002. `luminance`: the mastering
    display's (maximum, minimum) in steps of 0.0001 cd/m². `light`: (MaxCLL, MaxFALL) in cd/m².
    """

    chromaticities: tuple[int, ...] | None = None
    luminance: tuple[int, int] | None = None
    light: tuple[int, int] | None = None

    @property
    def peak_nits(self) -> float:
        """The luminance that the brightest part reaches, in cd/m²: MaxCLL, else the mastering display's."""
        if self.light and self.light[0]:
            return float(self.light[0])
        if self.luminance and self.luminance[0]:
            return self.luminance[0] / 10_000
        return UNKNOWN_PEAK


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """The planes of a frame, and how their samples encode colour. Chroma sizes are rounded up.

    matrix: "rgb" for planes R, G, B (always full range, 4:4:4), otherwise that of planes Y, Cb, Cr.
    alpha: a full-size plane of the same depth follows, full range, 0 = transparent.
    depth: 10-bit samples are uint16, 0..1023.
    primaries, transfer: code points of ISO/IEC 23091-2 (2 = unspecified), copied to the output's tags.
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
        """The transfer is PQ (SMPTE ST 2084) or HLG (ARIB STD-B67), of ITU-R BT.2100."""
        return self.transfer in (PQ, HLG)

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(height, width) of one chroma plane."""
        down = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}[self.subsampling]
        return -(-self.height // down[0]), -(-self.width // down[1])

    @property
    def plane_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each plane in order, the alpha plane included."""
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
    """Decoded frames of one chunk: one array [N, H, W] per plane, ascending PTS (ticks of `time_base`) per frame.

    `damage`: PTS at which the decoder found the source damaged; such frames are missing or not as they were.
    Checked when made (ValueError, TypeError), not again when it arrives pickled in another process.
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
    """The layout with both sides rounded up to even numbers, as H.264 4:2:0 needs them."""
    return replace(layout, width=layout.width + layout.width % 2, height=layout.height + layout.height % 2)
