"""The data plane without a network: probe, plan, decode, a matte that is a ramp, encode, join."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import Frames, PixelLayout, Plane
from serve_app.protocols import (
    AudioInfo,
    Chunk,
    Cutout,
    EncodeSettings,
    Expected,
    Index,
    IndexBrief,
    JoinPiece,
    JoinRequest,
    MediaFile,
    PieceRef,
    Provenance,
    StageSeconds,
)
from serve_app.runner.completeness import (
    PlanMismatch,
    audio_lines,
    check_chunk,
    damage_lines,
    expected_of,
    join_pieces_of,
)
from serve_app.runner.plan import plan_chunks
from serve_app.settings import ChunkSettings
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.figures import PieceFigures
from serve_app.video.formats import cutout_layout, output_format
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe
from tests.cluster.media import shown_at

PROVENANCE = Provenance("none", "cpu", "none", (64, 64))


def never() -> bool:
    return False


def limits(frames: int) -> ChunkSettings:
    """Chunks of just so many frames, fewer than a profile may ask for."""
    return ChunkSettings.model_construct(max_bytes=1 << 40, max_frames=frames, min_frames=1)


def settings_of(index: Index, output_type: OutputType, quality: Quality = Quality.MEDIUM) -> EncodeSettings:
    return EncodeSettings(
        output_type,
        quality,
        WriteMode.FAST,
        index.time_base,
        index.origin,
        index.average_rate,
        index.sample_aspect,
        hdr=index.hdr if cutout_layout(index.layout, output_type).hdr else None,
    )


def cutout_of(frames: Frames, output_type: OutputType) -> Cutout:
    """The frames as they are (their luma alone, where the layouts differ) with a ramp for a matte."""
    colour = in_layout(frames, cutout_layout(frames.layout, output_type))
    return Cutout(colour, ramp(frames), PROVENANCE, 0.0)


def in_layout(frames: Frames, layout: PixelLayout) -> Frames:
    """The frames in another layout of their size: as they are, or grey where they would have to be converted."""
    if replace(frames.layout, alpha=False) == layout:
        planes = frames.planes[:3]
    else:
        luma: Plane = (frames.planes[0].astype(np.uint16) << 2 >> (frames.layout.depth - 8)).astype(np.uint16)
        gray: Plane = np.full((len(frames), *layout.chroma_size), 512, np.uint16)
        if layout.depth == 8:
            luma, gray = (luma >> 2).astype(np.uint8), (gray >> 2).astype(np.uint8)
        planes = (luma, luma, luma) if layout.matrix == "rgb" else (luma, gray, gray)
    return replace(frames, planes=planes, layout=layout)


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


def write_piece(cutout: Cutout, settings: EncodeSettings, path: Path) -> JoinPiece:
    """Encodes a piece to `path`, and says what the join has to expect of it."""
    made = encode_piece(cutout, settings, path, never)
    return JoinPiece(path.name, made.frames, made.first_pts, made.last_pts, made.sha256)


def pieces_of(
    source: Path, index: Index, settings: EncodeSettings, chunks: list[Chunk], folder: Path
) -> dict[int, PieceRef]:
    """The pieces of all chunks, as `folder`/name."""
    decoder, pieces = ChunkDecoder(source, IndexBrief.of(index), threads=1), {}
    for chunk in chunks:
        name = f"{chunk.number:06d}.piece"
        frames = decoder.decode(chunk, never)
        made = PieceFigures(0, 0, 0, 0, "")
        if len(frames):
            made = encode_piece(cutout_of(frames, settings.output_type), settings, folder / name, never)
        own = None if not settings.mask else made.sha256
        figures = (made.size, made.frames, made.first_pts, made.last_pts, made.sha256, own)
        pieces[chunk.number] = PieceRef(
            name, name, *figures, PROVENANCE, StageSeconds(0.0, 0.0), frames.damage
        )
    decoder.close()
    return pieces


def convert(
    source: Path,
    folder: Path,
    output_type: OutputType,
    frames: int = 24,
    quality: Quality = Quality.MEDIUM,
    mask: bool = False,
    warnings: list[str] | None = None,
) -> tuple[Index, Path, MediaFile]:
    """Runs a source through everything; the index, the file written, and its figures. `warnings` gets those of the
    job's log.
    """
    index = probe(source)
    said = [*index.damage, *audio_lines(index.audio)]
    try:
        made = converted(source, index, folder, output_type, frames, quality, mask, index.sequential)
    except PlanMismatch:
        index = probe(source, decode=True)
        made = converted(source, index, folder, output_type, frames, quality, mask, True)
    out, media, lines = made
    if warnings is not None:
        warnings += said + lines
    return index, out, media


def converted(
    source: Path,
    index: Index,
    folder: Path,
    output_type: OutputType,
    frames: int,
    quality: Quality,
    mask: bool,
    decoded: bool,
) -> tuple[Path, MediaFile, list[str]]:
    settings = replace(settings_of(index, output_type, quality), mask=mask)
    chunks = plan_chunks(index, limits(frames))
    pieces = pieces_of(source, index, settings, chunks, folder)
    for chunk in chunks:
        check_chunk(index, chunk, pieces[chunk.number], decoded)
    out = folder / f"out.{output_format(output_type).extension}"
    joined = join_pieces_of(pieces, mask)
    audio = None if mask else index.audio
    request = JoinRequest(joined, source.name, audio, settings, expected_of(index, chunks, pieces), out.name)
    media = join_pieces(lambda: [folder / piece.name for piece in joined], request, source, out, never)
    return out, media, damage_lines(index, chunks, pieces)


def join_request(
    source: Path, index: Index, settings: EncodeSettings, pieces: list[JoinPiece], out: Path
) -> JoinRequest:
    """A join of just these pieces, with the source's audio; the last frame lasts as long as the others."""
    return request_of(pieces, settings, index.frame_duration, out, source, index.audio)


def request_of(
    pieces: list[JoinPiece],
    settings: EncodeSettings,
    step: int,
    out: Path,
    source: Path = Path(),
    audio: AudioInfo | None = None,
) -> JoinRequest:
    first, last = (pieces[0].first_pts, pieces[-1].last_pts) if pieces else (0, 0)
    expected = Expected(sum(piece.frames for piece in pieces), first, last, last + step, step)
    return JoinRequest(tuple(pieces), source.name, audio, settings, expected, out.name)


def times(index: Index) -> list[Fraction]:
    """The seconds at which the output has to show its frames."""
    return [(int(pts) - index.origin) * index.time_base for pts in index.pts]


def shown(path: Path) -> list[Fraction]:
    """The seconds at which a file shows its frames, found by decoding it."""
    with av.open(str(path)) as container:
        return [shown_at(frame) for frame in container.decode(container.streams.video[0])]
