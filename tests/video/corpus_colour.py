"""Awkward clips, made when a test asks for them: twelve flat patches, in every form that colour and geometry take.

`CASES` names them. A case says how its clip is made and what is to come out: where each patch lies (`seen`), and
its codes, from which `colour_reference` says the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.video.format import VideoFormat

from serve_app.video.mastering import add_to_sample_entry
from serve_app.video.planes import view
from tests.video import colour_reference as reference

ROWS, COLUMNS, FRAMES = 3, 4, 3
LEVELS = (0.08, 0.3, 0.5, 0.62)
# R'G'B' of the patches; none alike, so that one in the wrong place shows.
COLOURS = [colour for colour in product(LEVELS, repeat=3) if len(set(colour)) > 1 or colour[0] > 0.2][::5][
    :12
]
FFV1 = {"level": "3", "g": "1", "threads": "1"}
LOSSLESS = {"qp": "0", "preset": "veryfast", "threads": "1"}
ONE = 1 << 16  # in a display matrix
MASTER = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50)"


@dataclass(frozen=True)
class Case:
    """One clip.

    `tags`: matrix, range (1 limited, 2 full), primaries, transfer. `matrix`: (a, b, c, d) of a display matrix. `crop`:
    left, right, top, bottom, written by the container. `alpha`: the lower half is hidden. `peak`: cd/m².
    """

    name: str
    pixel_format: str = "yuv420p"
    codec: str = "ffv1"
    width: int = 96
    height: int = 72
    tags: tuple[int, int, int, int] = (1, 1, 1, 1)
    options: dict[str, str] = field(default_factory=lambda: dict(FFV1))
    aspect: Fraction = Fraction(1)
    matrix: tuple[int, int, int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    alpha: bool = False
    peak: float = 1000.0
    interlaced: bool = False
    levels: float = 1.0  # the brightest of a patch, times that

    @property
    def parts(self) -> list[int]:
        """Bits of each component."""
        return [part.bits for part in VideoFormat(self.pixel_format, 64, 64).components]

    @property
    def depth(self) -> int:
        return self.parts[0]

    @property
    def rgb(self) -> bool:
        form = VideoFormat(self.pixel_format, 64, 64)
        return form.is_rgb or form.has_palette

    @property
    def gray(self) -> bool:
        return self.pixel_format.startswith(("gray", "ya"))

    @property
    def code_matrix(self) -> int:
        return 0 if self.rgb else self.tags[0]

    def codes(self, patch: int) -> Any:
        """The codes of a patch as written."""
        colour = np.array(COLOURS[patch]) * self.levels
        if self.gray:
            colour[:] = colour.mean() + patch / 60
        full = self.rgb or self.tags[1] == 2
        return np.rint(reference.encode(colour, self.code_matrix, full, self.depth))

    def source_rgb(self, patch: int) -> Any:
        """R'G'B' of a patch as the source shows it, in its own primaries and transfer."""
        full = self.rgb or self.tags[1] == 2
        return reference.decode(tuple(self.codes(patch)), self.code_matrix, full, self.depth)

    def patches(self) -> Any:
        """The number of the patch under each pixel of a coded picture."""
        y, x = np.mgrid[0 : self.height, 0 : self.width]
        return (y * ROWS // self.height) * COLUMNS + x * COLUMNS // self.width

    def seen(self, width: int, height: int) -> Any:
        """The number of the patch under each pixel of the upright picture, scaled; -1 near an edge between two."""
        whole = self.patches()
        flat = np.ones_like(whole, bool)
        for dy, dx in product(range(-4, 5), repeat=2):
            flat &= np.roll(whole, (dy, dx), (0, 1)) == whole
        picture = np.where(flat, whole, -1)
        left, right, top, bottom = self.crop or (0, 0, 0, 0)
        picture = picture[top : picture.shape[0] - bottom, left : picture.shape[1] - right]
        picture = transformed(picture, self.matrix or (1, 0, 0, 1))
        rows = np.arange(height) * picture.shape[0] // height
        columns = np.arange(width) * picture.shape[1] // width
        return picture[rows][:, columns]


def transformed(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> Any:
    """A picture as ISO/IEC 14496-12 shows it: pixel (x, y) goes to (ax + cy, bx + dy), the whole moved into view."""
    a, b, c, d = matrix
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]]
    across, down = a * x + c * y, b * x + d * y
    out = np.empty((np.ptp(down) + 1, np.ptp(across) + 1), picture.dtype)
    out[down - down.min(), across - across.min()] = picture
    return out


def make_case(path: Path, case: Case) -> Path:
    """Writes the clip of `case` to `path`."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(case.codec, rate=25, options=dict(case.options))
        stream.width, stream.height, stream.pix_fmt = case.width, case.height, case.pixel_format
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = case.tags
        if case.rgb:
            context.colorspace, context.color_range = (0, 2)
        context.sample_aspect_ratio = case.aspect
        if case.matrix:
            a, b, c, d = (ONE * number for number in case.matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for number in range(FRAMES):
            frame = picture(case)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    if case.crop:
        crop_mp4(path, case)
    return path


def picture(case: Case) -> av.VideoFrame:
    """One frame of patches."""
    where = case.patches()
    if case.pixel_format == "pal8":
        frame = av.VideoFrame(case.width, case.height, "pal8")
        view(frame.planes[0], "u1")[:] = where
        table = np.frombuffer(memoryview(frame.planes[1]), "<u4")
        for patch in range(len(COLOURS)):
            red, green, blue = (int(code) for code in case.codes(patch))
            table[patch] = 0xFF000000 | red << 16 | green << 8 | blue
        return frame
    table = np.array([case.codes(patch) for patch in range(len(COLOURS))]).astype(np.uint16)
    planes = [table[where, component] for component in range(1 if case.gray else 3)]
    if case.alpha:
        opaque = np.zeros_like(planes[0])
        opaque[: case.height // 2] = (1 << case.depth) - 1
        planes.append(opaque)
    frame = av.VideoFrame(case.width, case.height, case.pixel_format)
    deep = case.depth > 8
    if len(frame.planes) == 1 and len(planes) > 1:  # packed: every component in a byte of its own
        names = {"bgr0": (2, 1, 0), "bgra": (2, 1, 0, 3), "ya8": (0, 3)}[case.pixel_format]
        lines = np.frombuffer(memoryview(frame.planes[0]), "u1").reshape(-1, frame.planes[0].line_size)
        step = 2 if case.pixel_format == "ya8" else 4
        rows = lines[: case.height, : case.width * step].reshape(case.height, case.width, step)
        rows[:] = 255
        for at, component in enumerate(names):
            rows[..., at] = planes[component if case.pixel_format != "ya8" else at]
        return frame
    order = (1, 2, 0, 3) if case.rgb else (0, 1, 2, 3)
    for at, plane in enumerate(frame.planes):
        samples = planes[order[at]]
        rows = -(-samples.shape[0] // plane.height)
        columns = -(-samples.shape[1] // plane.width)
        view(plane, "<u2" if deep else "u1")[:] = samples[::rows, ::columns]
    return frame


def crop_mp4(path: Path, case: Case) -> None:
    """Cuts by a clean aperture: ISO/IEC 14496-12, 12.1.4. Other containers get it by copying the packets."""
    left, right, top, bottom = case.crop or (0, 0, 0, 0)
    width, height = case.width - left - right, case.height - top - bottom
    box = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, left - right, 2, top - bottom, 2)
    if path.suffix == ".mp4":
        add_to_sample_entry(path, box)
        return
    beside = path.with_suffix(".mp4")
    make_case(beside, replace(case, name=beside.name))
    with av.open(str(beside)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)


def _x264(name: str, pixel_format: str = "yuv420p", **more: object) -> Case:
    return Case(name, pixel_format, "libx264", options=dict(LOSSLESS), **more)  # type: ignore[arg-type]


def _x265(name: str, params: str, **more: object) -> Case:
    settings = f"lossless=1:log-level=none:pools=1:frame-threads=1:{params}"
    return Case(name, "yuv420p10le", "libx265", options={"x265-params": settings}, **more)  # type: ignore[arg-type]


TURNS: dict[str, tuple[int, int, int, int]] = {
    "turned90": (0, 1, -1, 0),
    "turned180": (-1, 0, 0, -1),
    "turned270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside-down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transversed": (0, -1, -1, 0),
}
_HDR10 = (9, 1, 9, 16)
_ALL: Sequence[Case] = [
    Case("pq.mkv", "yuv420p10le", tags=_HDR10),
    Case("pq-dark.mkv", "yuv420p10le", tags=_HDR10, levels=0.6),
    Case("pq-bright.mkv", "yuv444p10le", tags=_HDR10, levels=1.5),
    Case("pq-full.mkv", "yuv420p10le", tags=(9, 2, 9, 16)),
    Case("pq-rgb.mkv", "gbrp10le", tags=_HDR10),
    Case("pq-p3.mkv", "yuv422p10le", tags=(9, 1, 12, 16)),
    _x265("pq-4000.mp4", f"master-display={MASTER}:hdr10=1", tags=_HDR10, peak=4000, levels=1.3),
    _x265("pq-cll.mp4", f"master-display={MASTER}:max-cll=600,200:hdr10=1", tags=_HDR10, peak=600),
    Case("hlg.mkv", "yuv420p10le", tags=(9, 1, 9, 18)),
    Case("hlg-bright.mkv", "yuv422p10le", tags=(9, 1, 9, 18), levels=1.5),
    Case("wide.mkv", "yuv420p10le", tags=(9, 1, 9, 14)),
    Case("ten420.mkv", "yuv420p10le"),
    Case("ten422.mkv", "yuv422p10le"),
    Case("ten444.mkv", "yuv444p10le"),
    Case("full.mkv", tags=(1, 2, 1, 1)),
    Case("sd.mkv", tags=(5, 1, 6, 6)),
    Case("422.mkv", "yuv422p"),
    Case("411.mkv", "yuv411p"),
    Case("440.mkv", "yuv440p"),
    *(_x264(f"{name}.mp4", matrix=matrix) for name, matrix in TURNS.items()),
    _x264("mirrored422.mp4", "yuv422p", matrix=TURNS["transposed"]),
    _x264("mirrored-odd.mov", "yuv444p", width=95, height=71, matrix=TURNS["mirrored"]),
    _x264("wide-samples.mp4", aspect=Fraction(4, 3)),
    _x264("tall-samples.mp4", aspect=Fraction(8, 9)),
    _x264("tall-turned.mp4", aspect=Fraction(8, 9), matrix=TURNS["turned90"]),
    _x264("cropped.mp4", crop=(8, 4, 6, 2)),
    _x264("cropped.mkv", crop=(24, 0, 0, 24)),
    _x264("cropped-odd.mp4", crop=(7, 4, 5, 2)),
    _x264("cropped-turned.mp4", crop=(8, 4, 6, 2), matrix=TURNS["transposed"]),
    Case("odd.mkv", width=95, height=71),
    Case("odd422.mkv", "yuv422p", width=93, height=65),
    Case("alpha.mkv", "yuva420p", alpha=True),
    Case("alpha-rgb.mkv", "bgra", alpha=True),
    Case("alpha-ten.mkv", "yuva444p10le", alpha=True),
    Case("gray.mkv", "gray", tags=(1, 2, 1, 1)),
    Case("gray10.mkv", "gray10le", tags=(1, 2, 1, 1)),
    Case("rgb.mkv", "bgr0"),
    Case("rgb10.mkv", "gbrp10le"),
    Case("palette.gif", "pal8", "gif", options={}),
]
CASES = {case.name: case for case in _ALL}


def interlaced(
    path: Path, options: dict[str, str], first: str | None, frames: int = 30, codec: str = "libx264"
) -> Path:
    """A bright bar that moves from field to field over a gradient. `first` field: "tff" (top) or "bff" (bottom); None:
    both fields of a frame show the time of the first, and the frame is called progressive.
    """
    marker = av.filter.Graph()
    source = marker.add_buffer(width=96, height=64, format=VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    setfield, sink = marker.add("setfield", f"mode={first or 'prog'}"), marker.add("buffersink")
    source.link_to(setfield)
    setfield.link_to(sink)
    marker.configure()
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame(96, 64, "yuv420p")
            luma = view(frame.planes[0], "u1")
            for line in range(64):
                second = first is not None and (line % 2 == 0) ^ (first == "tff")
                luma[line] = field_line(2 * number + second, line)
            for plane in frame.planes[1:]:
                view(plane, "u1")[:] = 128
            frame.pts, frame.time_base = number, Fraction(1, 25)
            marker.vpush(frame)
            out.mux(stream.encode(marker.vpull()))
        out.mux(stream.encode(None))
    return path


def field_line(time: int, line: int) -> Any:
    """One line of the scene of `interlaced` at a time counted in fields."""
    luma = np.full(96, 40 + line)
    left = 3 * time % 72
    luma[left : left + 24] = 200
    return luma.astype(np.uint8)
