"""The corpus of colour and geometry through the real stages, with a known matte, to every output."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from serve_app.birefnet.checkpoints import Checkpoint
from serve_app.birefnet.configuration import BiRefNetConfig
from serve_app.fal import OutputType, Quality, WriteMode
from serve_app.picture import UNKNOWN_PEAK
from serve_app.protocols import (
    CutOptions,
    EncodeSettings,
    Expected,
    Index,
    IndexBrief,
    JoinPiece,
    JoinRequest,
)
from serve_app.runner.plan import plan_chunks
from serve_app.segmentation.processing import CutoutEngine
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.formats import cutout_layout, has_alpha, output_aspect, output_format
from serve_app.video.join import join_pieces
from serve_app.video.planes import view
from serve_app.video.probe import probe
from tests.video import colour_reference as reference
from tests.video.corpus_colour import CASES, FRAMES, Case, make_case
from tests.video.pipeline import limits, never

OPAQUE, CLEAR = 0.6, 0.8  # of the width: the subject ends at the one, nothing is left at the other
ALPHA_BOUND = {
    OutputType.WEBM: 3,
    OutputType.MOV: 0,
    OutputType.GIF: 0,
}  # of 255, where nothing or all is seen


class KnownMatte:
    """In the place of the network: certain of all columns but a few."""

    name = "known"

    def prepare(self, size: tuple[int, int]) -> None:
        """Nothing is compiled."""

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        across = (torch.arange(pixels.shape[-1]) + 0.5) / pixels.shape[-1]
        row = torch.where(across < (OPAQUE + CLEAR) / 2, 5.3, -5.3)  # 254 and 1, as networks say it
        return row.expand(pixels.shape[0], 1, pixels.shape[-2], -1)


@dataclass(frozen=True)
class Shown:
    """A frame of an output: codes of its colour [3, H, W] and alpha [H, W] of 255, with what its tags say."""

    codes: np.ndarray
    alpha: np.ndarray | None
    matrix: int
    full: bool
    depth: int
    tags: tuple[int, int]
    aspect: Fraction


@pytest.fixture(scope="module")
def engine() -> CutoutEngine:
    return CutoutEngine(
        Checkpoint("known", Path(), BiRefNetConfig()), KnownMatte(), "cpu", batch=1, threads=1
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


def run(engine: CutoutEngine, source: Path, folder: Path, kind: OutputType) -> tuple[Index, Path]:
    """Everything that a job does, in chunks of two frames."""
    index = probe(source)
    layout = cutout_layout(index.layout, kind, index.sample_aspect)
    peak = index.hdr.peak_nits if index.hdr else UNKNOWN_PEAK
    options = CutOptions(64, True, not has_alpha(kind), layout, peak_nits=peak)
    settings = EncodeSettings(
        kind, Quality.MAXIMUM, WriteMode.FAST, index.time_base, index.origin, index.average_rate,
        output_aspect(kind, index.sample_aspect), hdr=index.hdr if layout.hdr else None,
    )  # fmt: skip
    decoder, paths, pieces = ChunkDecoder(source, IndexBrief.of(index)), [], []
    for chunk in plan_chunks(index, limits(2)):
        cutout = engine.cut_out(decoder.decode(chunk, never), options, never)
        paths.append(folder / f"{chunk.number}.piece")
        made = encode_piece(cutout, settings, paths[-1], never)
        pieces.append(JoinPiece(paths[-1].name, made.frames, made.first_pts, made.last_pts, made.sha256))
    decoder.close()
    out = folder / f"out.{output_format(kind).extension}"
    first, last = int(index.pts[0]), int(index.pts[-1])
    expected = Expected(len(index.pts), first, last, last + index.last_duration, index.frame_duration)
    request = JoinRequest(tuple(pieces), source.name, None, settings, expected, out.name)
    join_pieces(lambda: paths, request, source, out, never)
    return index, out


def last_shown(path: Path, kind: OutputType) -> Shown:
    """The last frame of an output, and how many there are is checked."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        decoder = (
            av.CodecContext.create("libvpx-vp9", "r") if kind is OutputType.WEBM else stream.codec_context
        )
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
        tags = int(stream.codec_context.color_primaries), int(stream.codec_context.color_trc)
        matrix, full = int(stream.codec_context.colorspace), int(stream.codec_context.color_range) == 2
    assert len(frames) == FRAMES
    frame = frames[-1]
    if kind is OutputType.GIF:
        picture = frame.to_ndarray(format="rgba").astype(float)
        return Shown(np.moveaxis(picture[..., :3], 2, 0), picture[..., 3], 0, True, 8, (1, 1), Fraction(1))
    deep = kind is OutputType.MOV
    planes = [view(plane, "<u2" if deep else "u1").astype(float) for plane in frame.planes]
    luma = planes[0]
    for at in (1, 2):
        rows = np.arange(luma.shape[0]) * planes[at].shape[0] // luma.shape[0]
        columns = np.arange(luma.shape[1]) * planes[at].shape[1] // luma.shape[1]
        planes[at] = planes[at][rows][:, columns]
    alpha = None
    if len(planes) == 4:
        alpha = np.floor(planes[3] / 16) if deep else planes[3]
    codes = np.stack(planes[:3]) / (4 if deep else 1)  # FFmpeg reads ProRes 4444 as twelve bits
    return Shown(codes, alpha, matrix, full, 10 if deep else 8, tags, aspect)


def expected(case: Case, patch: int, shown: Shown) -> Any:
    """The codes that a patch has to have in an output, by the reference."""
    rgb = case.source_rgb(patch)
    primaries, transfer = case.tags[2:]
    if shown.tags != (primaries, transfer):
        rgb = reference.sdr(rgb, primaries, transfer, case.peak)
    return reference.encode(rgb, shown.matrix, shown.full, shown.depth)


@pytest.mark.parametrize("kind", list(OutputType), ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("name", CASES)
def test_corpus(engine: CutoutEngine, clips: Path, tmp_path: Path, name: str, kind: OutputType) -> None:
    case, source = CASES[name], clips / name
    if not source.exists():
        make_case(source, case)
    index, out = run(engine, source, tmp_path, kind)
    shown = last_shown(out, kind)
    layout = cutout_layout(index.layout, kind, index.sample_aspect)
    height, width = shown.codes.shape[1:]
    pad = 2 if kind is OutputType.MP4 else 1
    assert (width, height) == (-(-layout.width // pad) * pad, -(-layout.height // pad) * pad)
    if kind in (OutputType.MP4, OutputType.MOV):
        assert shown.aspect == index.sample_aspect
    where = np.full((height, width), -1)
    where[: layout.height, : layout.width] = case.seen(layout.width, layout.height)
    across = np.arange(width) / layout.width
    hidden = np.zeros_like(where, bool)
    if case.alpha:
        hidden[layout.height // 2 - 4 :] = True
        where[layout.height // 2 - 4 : layout.height // 2 + 4] = -1
    opaque = (where >= 0) & (across < OPAQUE) & ~hidden
    clear = (where >= 0) & ((across > CLEAR) | hidden)
    assert opaque.any() and clear.any()
    errors = []
    for patch in np.unique(where[opaque]):
        wanted = expected(case, int(patch), shown)
        errors.append(np.abs(shown.codes[:, opaque & (where == patch)] - wanted[:, None]).ravel())
    steps = np.concatenate(errors) / (1 << shown.depth - 8)
    assert steps.mean() < 0.5, f"{steps.mean():.3f} steps, at most {steps.max():.2f}"
    if shown.alpha is not None:
        assert np.abs(shown.alpha[opaque] - 255).max() <= ALPHA_BOUND[kind]
        assert shown.alpha[clear].max() <= ALPHA_BOUND[kind]
    else:
        assert np.abs(shown.codes[0][clear] - (0 if shown.full else 16)).max() <= 1
    hdr = case.tags[3] in (16, 18)
    if hdr and kind is not OutputType.GIF:
        keeps = kind is OutputType.MOV
        assert shown.tags == (case.tags[2:] if keeps else (1, 1))
        assert shown.matrix == (9 if keeps else 1)
