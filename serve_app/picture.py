"""What a source says of its pictures beside their layout: which way is up, and how bright HDR was meant to be.

Code points are those of ISO/IEC 23091-2 (ITU-T H.273).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
