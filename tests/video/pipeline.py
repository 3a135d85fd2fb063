"""The data plane without a network: probe, plan, decode, a matte that is a ramp, encode, join."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.protocols import (
    Cutout,
    EncodeSettings,
    Frames,
    Index,
    IndexBrief,
    JoinRequest,
    MediaFile,
    Provenance,
)
from serve_app.runner.plan import ChunkLimits, plan_chunks
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout, output_format
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe

NOBODY = Provenance("none", "cpu", "none", (64, 64))


def never() -> bool:
    return False


def limits(frames: int) -> ChunkLimits:
    return ChunkLimits(max_bytes=1 << 40, max_frames=frames, min_frames=1)


def settings_of(index: Index, output_type: OutputType, quality: Quality = Quality.MEDIUM) -> EncodeSettings:
    return EncodeSettings(
        output_type,
        quality,
        WriteMode.FAST,
        index.time_base,
        index.origin,
        index.average_rate,
        index.sample_aspect,
    )


def cutout_of(frames: Frames, output_type: OutputType) -> Cutout:
    """The frames as they are (their luma alone, where the layouts differ) with a ramp for a matte."""
    layout = cutout_layout(frames.layout, output_type)
    if replace(frames.layout, alpha=False) == layout:
        planes = frames.planes[:3]
    else:
        luma = frames.planes[0].astype(np.uint16) << 2 >> (frames.layout.depth - 8)
        gray = np.full((len(frames), *layout.chroma_size), 512, np.uint16)
        if layout.depth == 8:
            luma, gray = (luma >> 2).astype(np.uint8), (gray >> 2).astype(np.uint8)
        planes = (luma, luma, luma) if layout.matrix == "rgb" else (luma, gray, gray)
    return Cutout(replace(frames, planes=planes, layout=layout), ramp(frames), NOBODY, 0.0)


def ramp(frames: Frames) -> np.ndarray:
    """A matte that rises from left to right, and falls with the frames."""
    height, width = frames.layout.height, frames.layout.width
    columns = np.arange(width) * 200 // width
    rows = [np.broadcast_to(columns + 55 - 5 * (n % 11), (height, width)) for n in range(len(frames))]
    return np.stack(rows).astype(np.uint8)


def mattes(index: Index, frames: int) -> np.ndarray:
    """The mattes that `convert` gives a source when it cuts it into chunks of `frames`."""
    height, width = index.layout.height, index.layout.width
    numbers = np.concatenate([np.arange(chunk.frames) for chunk in plan_chunks(index, limits(frames))])
    columns = np.arange(width) * 200 // width
    return np.stack([np.broadcast_to(columns + 55 - 5 * (n % 11), (height, width)) for n in numbers])


def convert(
    source: Path,
    folder: Path,
    output_type: OutputType,
    frames: int = 24,
    quality: Quality = Quality.MEDIUM,
    mask: bool = False,
) -> tuple[Index, Path, MediaFile]:
    """Runs a source through everything; the index, the file written, and its figures."""
    index = probe(source)
    settings = replace(settings_of(index, output_type, quality), mask=mask)
    decoder, pieces = ChunkDecoder(source, IndexBrief.of(index), threads=1), []
    for chunk in plan_chunks(index, limits(frames)):
        piece = folder / f"{chunk.number}.piece"
        encode_piece(cutout_of(decoder.decode(chunk, never), output_type), settings, piece, never)
        pieces.append(piece)
    decoder.close()
    out = folder / f"out.{output_format(output_type).extension}"
    request = join_request(source, index, settings, pieces, out)
    return index, out, join_pieces(lambda: pieces, request, source, out, never)


def join_request(
    source: Path, index: Index, settings: EncodeSettings, pieces: list[Path], out: Path
) -> JoinRequest:
    names = tuple(piece.name for piece in pieces)
    return JoinRequest(names, source.name, index.audio, settings, index.frame_duration, out.name)


def times(index: Index) -> list[Fraction]:
    """The seconds at which the output has to show its frames."""
    return [(int(pts) - index.origin) * index.time_base for pts in index.pts]


def shown(path: Path) -> list[Fraction]:
    """The seconds at which a file shows its frames, found by decoding it."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(container.streams.video[0])]
