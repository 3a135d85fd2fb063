"""Checks the pieces of a job against its plan, and describes the damage of its source for the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from serve_app.errors import EncodingFailed, NothingProduced, UnsupportedVideo
from serve_app.protocols import AudioInfo, Chunk, Expected, Index, JoinPiece, Piece, PieceRef
from serve_app.runner.log_lines import count

_MAX_PLACES = 8  # damaged places listed in one log line


class PlanMismatch(Exception):
    """A chunk of an undamaged source has a different number of frames than packets: plan again from decoded frames."""


class Decoded(NamedTuple):
    """How many frames a chunk gave, and the times in ticks of the damage in it."""

    frames: int
    damage: tuple[int, ...]


def check_chunk(index: Index, chunk: Chunk, piece: Piece, decoded: bool) -> None:
    """Check that a piece has the frames of its chunk. Frames may be missing only if the decoder found damage.

    Raises `PlanMismatch`, or `EncodingFailed` if the plan already came from decoding (`decoded`).
    """
    if piece.frames == chunk.frames or (piece.damage and piece.frames < chunk.frames):
        return
    if not decoded:
        raise PlanMismatch
    start = 0.0 if chunk.start is None else _seconds(index, chunk.start)
    raise EncodingFailed(
        f"The part of the video from {start:.2f} s on has {count(chunk.frames, 'frame')} and no damage, but "
        f"{piece.frames} were computed. Send the request again; if it fails again, report it as a bug of the service."
    )


def expected_of(index: Index, chunks: Sequence[Chunk], pieces: Mapping[int, Piece]) -> Expected:
    """The expected properties of the joined file: the source's frames and times, without frames lost to damage.

    Raises `UnsupportedVideo` if all frames are damaged, `NothingProduced` if there are no frames.
    """
    made = [(chunk, pieces[chunk.number]) for chunk in chunks]
    if not any(piece.frames for _, piece in made):
        raise NothingProduced("No frame of the video could be decoded.", field="video_url")
    if sum(piece.frames for _, piece in made) <= sum(len(piece.damage) for _, piece in made):
        raise UnsupportedVideo(
            "All parts of the video are damaged. " + " ".join(damage_lines(index, chunks, pieces))
        )
    full = [piece for _, piece in made if isinstance(piece, PieceRef)]
    first_chunk, first = made[0]
    last_chunk, last = made[-1]
    return Expected(
        frames=len(index.pts) - sum(chunk.frames - piece.frames for chunk, piece in made),
        first_pts=int(index.pts[0]) if first.frames == first_chunk.frames else full[0].first_pts,
        last_pts=int(index.pts[-1]) if last.frames == last_chunk.frames else full[-1].last_pts,
        end=int(index.pts[-1]) + index.last_duration,
        frame_duration=index.frame_duration,
    )


def join_pieces_of(pieces: Mapping[int, Piece], mask: bool) -> tuple[JoinPiece, ...]:
    """The pieces of the output or of the mask, in order. Chunks without frames have no piece."""
    made = [piece for _, piece in sorted(pieces.items()) if isinstance(piece, PieceRef)]
    return tuple(
        JoinPiece(
            name=(piece.mask_name if mask else piece.name) or "",
            frames=piece.frames,
            first_pts=piece.first_pts,
            last_pts=piece.last_pts,
            sha256=(piece.mask_sha256 if mask else piece.sha256) or "",
        )
        for piece in made
    )


def damage_lines(index: Index, chunks: Sequence[Chunk], pieces: Mapping[int, Piece | Decoded]) -> list[str]:
    """Which frames of the source are damaged, and how many are missing for it; empty for an undamaged source."""
    ticks = sorted({tick for piece in pieces.values() for tick in piece.damage})
    lost = sum(chunk.frames - pieces[chunk.number].frames for chunk in chunks)
    if not ticks and not lost:
        return []
    numbers = np.unique(np.clip(np.searchsorted(index.pts, ticks), 0, len(index.pts) - 1))
    places = [_place(index, int(run[0]), int(run[-1])) for run in _runs(numbers)]
    more = f" and {len(places) - _MAX_PLACES} more places" if len(places) > _MAX_PLACES else ""
    line = f"The source is damaged or interrupted at {', '.join(places[:_MAX_PLACES])}{more}."
    if lost:
        line += f" {count(lost, 'frame')} could not be decoded; the preceding frame is shown longer instead."
    return [f"{line} Frames decoded there may look wrong."]


def audio_lines(audio: AudioInfo | None) -> list[str]:
    """Warnings about the audio track. Raises `UnsupportedVideo` if none of it can be decoded."""
    if audio is None or not audio.damaged:
        return []
    if audio.damaged == audio.packets:
        raise UnsupportedVideo(
            f"The audio track ({audio.codec}) cannot be decoded. Repair it, or leave it out with drop_audio."
        )
    return [f"{audio.damaged} of {audio.packets} packets of the audio track cannot be decoded."]


def _runs(numbers: np.ndarray) -> list[list[int]]:
    """Group consecutive numbers."""
    runs: list[list[int]] = [[int(numbers[0])]] if len(numbers) else []
    for before, after in pairwise(numbers):
        if after == before + 1:
            runs[-1].append(int(after))
        else:
            runs.append([int(after)])
    return runs


def _place(index: Index, first: int, last: int) -> str:
    at, to = (_seconds(index, int(index.pts[number])) for number in (first, last))
    return f"frame {first} ({at:.2f} s)" if first == last else f"frames {first}-{last} ({at:.2f}-{to:.2f} s)"


def _seconds(index: Index, tick: int) -> float:
    return float((tick - index.origin) * index.time_base)
