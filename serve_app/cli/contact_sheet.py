"""Contact sheet: source, matte and cutout over a checkerboard, at several points of a video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

Image = npt.NDArray[np.uint8]
GAP = 6


def contact_sheet(source: Path, cutout: Path, out: Path, rows: int = 5, width: int = 320) -> None:
    """Writes a PNG of `rows` evenly spaced frames, each image `width` pixels wide.

    cutout: WebM with alpha and the same frames as `source`.
    """
    count = _count(cutout)
    wanted = [count * (2 * row + 1) // (2 * rows) for row in range(rows)]
    lines = []
    for (original, _), (colour, alpha) in zip(
        picked_frames(source, wanted), picked_frames(cutout, wanted), strict=True
    ):
        images = [small(image, width) for image in (original, np.repeat(alpha[:, :, None], 3, 2))]
        images.append(small(over_checkerboard(colour, alpha), width))
        lines.append(stack(images, axis=1))
    write_png(stack(lines, axis=0), out)


def over_checkerboard(colour: Image, alpha: Image, cell: int = 24) -> Image:
    """Composites straight colour [H, W, 3] with alpha [H, W] over grey squares of `cell` pixels; uint8 [H, W, 3]."""
    row, col = np.indices(alpha.shape)
    board = np.where((row // cell + col // cell) % 2, 200, 120)[:, :, None]
    share = alpha[:, :, None].astype(np.float32) / 255
    return (colour * share + board * (1 - share)).round().astype(np.uint8)


def picked_frames(path: Path, wanted: list[int]) -> list[tuple[Image, Image]]:
    """(RGB [H, W, 3], alpha [H, W]) of the frames with the numbers `wanted`, which ascend."""
    found: list[tuple[Image, Image]] = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(_frames(container)):
            if number in wanted:
                rgba = frame.to_ndarray(format="rgba").astype(np.uint8, copy=False)
                found.append((rgba[:, :, :3], rgba[:, :, 3]))
            if number >= wanted[-1]:
                break
    return found


def _count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def _frames(container: InputContainer) -> Iterator[VideoFrame]:
    stream = container.streams.video[0]
    decoder: VideoCodecContext = stream.codec_context
    if decoder.name == "vp9":  # FFmpeg's native VP9 decoder drops alpha; libvpx keeps it
        decoder = VideoCodecContext.create("libvpx-vp9", "r")
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def small(image: Image, width: int) -> Image:
    """RGB [H, W, 3] at another width, the height in proportion."""
    height = round(image.shape[0] * width / image.shape[1])
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()  # type: ignore[return-value]


def stack(images: list[Image], axis: int) -> Image:
    """Concatenates images along `axis` with white gaps."""
    shape = list(images[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for image in images for part in (image, gap)]
    return np.concatenate(parts[:-1], axis=axis)


def write_png(image: Image, path: Path) -> None:
    """Writes RGB [H, W, 3]."""
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.shape[1], image.shape[0], "rgb24"
    encoder.time_base = Fraction(1)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
