"""The whole table of `video_quality` and `video_write_mode`: size, seconds and loss in every format, as Markdown.

    python -m benchmarks.dials

The demo clip, scaled down, with a soft disc for a matte that wanders and grows. Seconds are CPU-seconds of
encoding by one thread, and joining. Decibels are those of the finished file, decoded again, against what went into the
encoder: of the colour where the matte is not 0 (in an MP4 where it is 255, the rest being black), and of the
alpha (in a GIF against the matte cut at 128, as it knows on and off only).
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figures, Machine, add_out
from benchmarks.tables import DIALS
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import Frames, Geometry, PixelLayout
from serve_app.protocols import Cutout, EncodeSettings, Expected, JoinPiece, JoinRequest, Provenance
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout, has_alpha
from serve_app.video.join import join_pieces
from serve_app.video.planes import Unpacker, pixel_format, view
from serve_app.video.source import decoder_of

CLIP = Path(__file__).parents[1] / "tests" / "data" / "clips" / "bigbuckbunny.mp4"
RATE = Fraction(25)
PIECE = 12  # frames

Samples = npt.NDArray[Any]


@dataclass(frozen=True)
class Field:
    """One field of the table."""

    size: int
    seconds: float
    colour_db: float
    alpha_db: float


def cutout(output_type: OutputType, count: int, width: int, height: int) -> Cutout:
    """Frames of the clip in the layout of `output_type`, and the matte."""
    layout = cutout_layout(PixelLayout(width, height), output_type)
    planes = [np.empty((count, *size), layout.sample_type) for size in layout.plane_sizes]
    unpacker = Unpacker(layout, Geometry())
    with av.open(str(CLIP)) as clip:
        for row, frame in zip(range(count), clip.decode(video=0), strict=False):
            unpacker.copy(frame.reformat(width, height, pixel_format(layout)), planes, row)
    y, x = np.mgrid[0:height, 0:width]
    mattes = []
    for number in range(count):
        radius = height * (0.3 + 0.1 * number / count)
        distance = np.hypot(y - height * 0.5, x - width * (0.35 + 0.3 * number / count))
        mattes.append(np.clip((radius - distance) * 255 / 12 + 128, 0, 255).astype(np.uint8))
    matte = np.stack(mattes)
    if not has_alpha(output_type):
        over_black(planes, matte, layout)
    colour = Frames(tuple(planes), layout, np.arange(count), 1 / RATE)
    return Cutout(colour, matte, Provenance("none", "cpu", "none", (height, width)), 0.0)


def over_black(planes: list[Samples], matte: Samples, layout: PixelLayout) -> None:
    """Composes 8-bit planes in limited range over black, in place."""
    small = matte[:, ::2, ::2] if layout.subsampling == "420" else matte
    for plane, alpha, black in zip(planes, (matte, small, small), (16, 128, 128), strict=True):
        plane[:] = np.rint((plane.astype(float) - black) * (alpha / 255) + black)


def measure(whole: Cutout, settings: EncodeSettings, folder: Path) -> Field:
    """Writes the cutout in pieces, joins them, and reads the file again."""
    pieces: list[JoinPiece] = []
    out = folder / "out"
    started = time.process_time()
    for first in range(0, len(whole.colour), PIECE):
        rows = slice(first, first + PIECE)
        colour = whole.colour
        part = Frames(
            tuple(p[rows] for p in colour.planes), colour.layout, colour.pts[rows], colour.time_base
        )
        path = folder / str(first)
        cutout = Cutout(part, whole.matte[rows], whole.provenance, 0.0)
        made = encode_piece(cutout, settings, path, lambda: False)
        pieces.append(JoinPiece(path.name, made.frames, made.first_pts, made.last_pts, made.sha256))
    last = pieces[-1].last_pts
    expected = Expected(len(whole.colour), pieces[0].first_pts, last, last + 1, 1)
    request = JoinRequest(tuple(pieces), "", None, settings, expected, "out")
    media = join_pieces(lambda: [folder / p.name for p in pieces], request, CLIP, out, lambda: False)
    seconds = time.process_time() - started
    return Field(media.file_size, seconds, *loss(out, whole))


def loss(path: Path, whole: Cutout) -> tuple[float, float]:
    """PSNR of colour and of alpha, in dB; infinite where nothing is lost, not a number where there is none."""
    layout = whole.colour.layout
    gif = layout.matrix == "rgb"
    colour, alpha = Loss(), Loss()
    for row, (planes, bits) in enumerate(decoded(path, gif)):
        matte = whole.matte[row]
        seen = matte == 255 if len(planes) == 3 else matte >= (128 if gif else 1)
        for plane, original in zip(planes[:3], whole.colour.planes, strict=True):
            shown = seen if plane.shape == seen.shape else seen[::2, ::2]
            colour.add(
                (plane / (1 << bits - layout.depth) - original[row])[shown] / ((1 << layout.depth) - 1)
            )
        if len(planes) == 4:
            wanted = np.where(seen, 255, 0) if gif else matte
            alpha.add((np.rint(planes[3] * (255 / ((1 << bits) - 1))) - wanted) / 255)
    return colour.decibels, alpha.decibels


class Loss:
    """The mean of squares, as decibels below 1."""

    def __init__(self) -> None:
        self._squares, self._count = 0.0, 0

    def add(self, errors: Samples) -> None:
        self._squares += float(np.square(errors).sum())
        self._count += errors.size

    @property
    def decibels(self) -> float:
        if not self._squares:
            return math.inf if self._count else math.nan
        return 10 * math.log10(self._count / self._squares)


def decoded(path: Path, gif: bool) -> Iterator[tuple[list[Samples], int]]:
    """The planes of each frame as the decoder gives them (R, G, B, A of a GIF), and their bits."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = decoder_of(stream, 1)
        for packet in container.demux(stream):
            for frame in decoder.decode(packet if packet.size else None):
                bits = frame.format.components[0].bits
                if gif:
                    yield list(np.moveaxis(frame.to_ndarray(format="rgba"), 2, 0)), bits
                else:
                    yield [view(plane, "<u2" if bits > 8 else "u1") for plane in frame.planes], bits


def decibels(value: float) -> float | str | None:
    """As JSON knows it: "exact" where nothing is lost, None where there is nothing to compare."""
    return None if math.isnan(value) else "exact" if math.isinf(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=36)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--type", choices=[form.name.lower() for form in OutputType], nargs="*")
    add_out(parser, "dials")
    given = parser.parse_args()
    machine, rows = Machine.here(), []
    print(f"{given.frames} frames, {given.width}x{given.height}\n\n{DIALS.head}")
    for output_type in OutputType:
        if given.type and output_type.name.lower() not in given.type:
            continue
        whole = cutout(output_type, given.frames, given.width, given.height)
        for quality, mode in product(Quality, WriteMode):
            settings = EncodeSettings(output_type, quality, mode, 1 / RATE, 0, RATE, Fraction(1))
            with tempfile.TemporaryDirectory(prefix="dials-") as folder:
                field = measure(whole, settings, Path(folder))
            rows.append(
                {
                    "type": output_type.name.lower(),
                    "quality": quality.value,
                    "write_mode": mode.value,
                    "kilobytes": field.size / 1000,
                    "cpu_s": field.seconds,
                    "colour_db": decibels(field.colour_db),
                    "alpha_db": decibels(field.alpha_db),
                }
            )
            print(DIALS.line(rows[-1]), flush=True)
    options = {"frames": given.frames, "width": given.width, "height": given.height}
    Figures("dials", options, machine, rows).save(given.out)


if __name__ == "__main__":
    main()
