"""Copies pixels between FFmpeg's frames and arrays, and makes pictures upright.

Planes are read from the frame's buffers, as PyAV's `to_ndarray` rejects odd widths and many formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter

from serve_app.picture import Geometry, PixelLayout, Plane
from serve_app.video import colour_tags as colour

_SAMPLING: dict[tuple[int, int], Literal["420", "422", "444"]] = {
    (2, 2): "420",
    (2, 1): "422",
    (1, 1): "444",
    (1, 2): "444",  # 4:4:0: keeps every sample
    (4, 1): "422",  # 4:1:1
    (4, 4): "420",  # 4:1:0
}
_SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
)


def layout_of(frame: VideoFrame, codec: str, geometry: Geometry) -> PixelLayout:
    """The layout of upright frames decoded from frames like `frame`."""
    parts = VideoFormat(frame.format.name, 64, 64).components
    left, right, top, bottom = geometry.crop
    width, height = frame.width - left - right, frame.height - top - bottom
    rgb = frame.format.is_rgb or frame.format.has_palette
    sampling: Literal["420", "422", "444"] = "444"
    if not rgb:
        # PyAV marks components as chroma only if subsampled; gray becomes 4:2:0 with neutral chroma.
        chroma = parts[1] if len(parts) > 2 else None
        sampling = _SAMPLING.get((64 // chroma.width, 64 // chroma.height), "444") if chroma else "420"
        if sampling != "444" and _disturbs_chroma(geometry, width, height, sampling):
            sampling = "444"
    return PixelLayout(
        width=height if geometry.sideways else width,
        height=width if geometry.sideways else height,
        subsampling=sampling,
        depth=10 if max(part.bits for part in parts) > 8 else 8,
        matrix="rgb" if rgb else _matrix(frame),
        full_range=rgb or colour.is_full_range(frame.color_range, frame.format.name, codec),
        chroma_site=colour.chroma_site_of(codec, sampling, geometry),
        alpha=any(part.is_alpha for part in parts) or frame.format.has_palette,
        primaries=int(frame.color_primaries) or colour.UNSPECIFIED,
        transfer=int(frame.color_trc) or colour.UNSPECIFIED,
    )


def _disturbs_chroma(geometry: Geometry, width: int, height: int, sampling: str) -> bool:
    """Whether cropping or rotation moves chroma samples off the grid of a subsampled layout."""
    left, _, top, _ = geometry.crop
    if left % 2 or (top % 2 and sampling == "420"):
        return True
    turned = geometry.rotation or geometry.mirrored
    return bool(turned and (width % 2 or height % 2)) or (geometry.sideways and sampling == "422")


def _matrix(frame: VideoFrame) -> colour.Matrix:
    return colour.matrix_of(
        int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), frame.height
    )


def pixel_format(layout: PixelLayout) -> str:
    """FFmpeg's planar format with the planes of `layout` (RGB: in the order G, B, R)."""
    deep = "10le" if layout.depth == 10 else ""
    if layout.matrix == "rgb":
        return ("gbrap" if layout.alpha else "gbrp") + deep
    return f"yuv{'a' if layout.alpha else ''}{layout.subsampling}p{deep}"


class Unpacker:
    """Copies decoded frames into arrays of `layout`, upright."""

    def __init__(self, layout: PixelLayout, geometry: Geometry, threads: int = 1) -> None:
        self._geometry = geometry
        left, right, top, bottom = geometry.crop
        turned = replace(layout, width=layout.height, height=layout.width) if geometry.sideways else layout
        self._planes = turned.plane_sizes
        self.size = (turned.width + left + right, turned.height + top + bottom)
        self._format = pixel_format(layout)
        self._dtype = "<u2" if layout.depth == 10 else "u1"
        rgb = layout.matrix == "rgb"
        self._order = ((2, 0, 1) if rgb else (0, 1, 2)) + ((3,) if layout.alpha else ())
        self._range = colour.FULL if rgb else colour.range_code(layout)
        self._matrix = colour.matrix_code(layout) if not rgb else 1
        self._threads = threads
        self._scaler = VideoReformatter()

    def copy(self, frame: VideoFrame, into: Sequence[Plane], row: int) -> None:
        """Copy `frame`, which must have `size` (width, height), to `into[plane][row]`."""
        frame = self._converted(frame)
        for target, index, size in zip(into, self._order, self._planes, strict=True):
            target[row] = self._upright(view(frame.planes[index], self._dtype), size)

    def _upright(self, samples: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
        """The samples of one plane, cropped to `size` (height, width), mirrored and rotated."""
        left, _, top, _ = self._geometry.crop
        left, top = left * samples.shape[1] // self.size[0], top * samples.shape[0] // self.size[1]
        samples = samples[top : top + size[0], left : left + size[1]]
        if self._geometry.mirrored:
            samples = samples[:, ::-1]
        return np.rot90(samples, k=-self._geometry.rotation // 90)

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        """The frame in the layout's format, converted by swscale only if its format or matrix differs."""
        converted = int(frame.colorspace) in colour.CONVERTED
        if frame.format.name.replace("yuvj", "yuv") == self._format and not converted:
            return frame
        # Gray samples stay unchanged: swscale treats gray as full range regardless of tags.
        gray = frame.format.name.startswith(("gray", "ya", "mono"))
        range_ = colour.FULL if gray else self._range
        return self._scaler.reformat(
            frame, frame.width, frame.height, self._format,
            src_colorspace=int(frame.colorspace) if converted else self._matrix, dst_colorspace=self._matrix,
            src_color_range=range_, dst_color_range=range_,
            interpolation=_SCALING, threads=self._threads,
        )  # fmt: skip


def view(plane: VideoPlane, dtype: str) -> npt.NDArray[Any]:
    """A view of the samples of a plane, [height, width]."""
    samples = np.frombuffer(plane, np.dtype(dtype))  # type: ignore[call-overload]
    stride = plane.line_size // samples.itemsize
    rows: npt.NDArray[Any] = samples[: stride * plane.height].reshape(plane.height, stride)
    return rows[:, : plane.width]


def fill(plane: VideoPlane, samples: npt.NDArray[Any]) -> None:
    """Write `samples` to a plane of the same or larger size, repeating the last column and row."""
    target = view(plane, samples.dtype.str)
    height, width = samples.shape
    target[:height, :width] = samples
    target[:height, width:] = samples[:, -1:]
    target[height:] = target[height - 1]
