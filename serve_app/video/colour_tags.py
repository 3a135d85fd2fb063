"""Converts colour tags between FFmpeg's code points (ISO/IEC 23091-2) and `PixelLayout`."""

from __future__ import annotations

from typing import Literal

from serve_app.picture import Geometry, PixelLayout
from serve_app.video.source import unsupported

Matrix = Literal["bt601", "bt709", "bt2020", "rgb"]
Site = Literal["left", "center", "topleft"]

UNSPECIFIED = 2
LIMITED, FULL = 1, 2  # FFmpeg's AVCOL_RANGE_MPEG and AVCOL_RANGE_JPEG

_MATRIX_OF_CODE: dict[int, Matrix] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
}
CONVERTED = (4, 7)  # FCC and SMPTE 240M: converted to the most similar supported matrix
_UNKNOWN_MATRICES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    13: "chroma-derived with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_CODE_OF_MATRIX: dict[Matrix, int] = {"bt709": 1, "bt601": 6, "bt2020": 9, "rgb": 0}

_BT2020_PRIMARIES = 9
_HDR_TRANSFERS = (16, 18)  # SMPTE ST 2084 (PQ), ARIB STD-B67 (HLG)
_STANDARD_DEFINITION = 576  # lines; players assume BT.601 for untagged video up to this height
_CENTRED_CODECS = ("mjpeg", "mpeg1video", "gif", "png", "apng")
_FULL_RANGE_GRAY_CODECS = ("png", "apng", "mjpeg", "ffv1", "rawvideo", "gif", "qtrle", "huffyuv", "ffvhuff")


def site_of_code(code: int) -> Site | None:
    """The chroma site for FFmpeg's AVChromaLocation, rounded to the nearest supported one; None if unspecified."""
    sites: dict[int, Site] = {1: "left", 2: "center", 3: "topleft", 4: "topleft", 5: "left", 6: "center"}
    return sites.get(code)


def matrix_of(code: int, primaries: int, transfer: int, height: int) -> Matrix:
    """The YCbCr matrix of a tag. If untagged, the one that players assume for this height.

    Raises `UnsupportedVideo` for other colour models.
    """
    if code in _UNKNOWN_MATRICES:
        raise unsupported(
            f"The video's colours are {_UNKNOWN_MATRICES[code]}, which is not supported: convert it to BT.709."
        )
    if code in _MATRIX_OF_CODE:
        return _MATRIX_OF_CODE[code]
    if primaries == _BT2020_PRIMARIES or transfer in _HDR_TRANSFERS:
        return "bt2020"
    return "bt601" if height <= _STANDARD_DEFINITION else "bt709"


def matrix_code(layout: PixelLayout) -> int:
    """The code point of the matrix of `layout`."""
    return _CODE_OF_MATRIX[layout.matrix]


def range_code(layout: PixelLayout) -> int:
    return FULL if layout.full_range else LIMITED


def is_full_range(tag: int, pixel_format: str, codec: str) -> bool:
    """Whether samples are full range. Untagged gray is full range in image codecs, limited range in video codecs."""
    if tag in (LIMITED, FULL):
        return tag == FULL
    if pixel_format.startswith("yuvj"):
        return True
    return pixel_format.startswith(("gray", "ya", "mono")) and codec in _FULL_RANGE_GRAY_CODECS


def chroma_site_of(codec: str, subsampling: str, geometry: Geometry) -> Site:
    """The codec's default location of 4:2:0 chroma samples, after applying `geometry`.

    Rotation moves the sites to unsupported locations, of which "center" is the nearest. A vertical flip (mirrored and
    rotated by 180 degrees) keeps their columns.
    """
    if subsampling == "444":
        return "left"
    upside_down = geometry.mirrored and geometry.rotation == 180
    moved = (geometry.mirrored or geometry.rotation) and not upside_down
    return "center" if moved or codec in _CENTRED_CODECS else "left"
