"""Whether the pieces of a job are what its plan promised, and what is to be said where the source is damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from serve_app.errors import EncodingFailed, NothingProduced, UnsupportedVideo
from serve_app.protocols import AudioInfo, Chunk, Expected, Index, JoinPiece, Piece, PieceRef
from serve_app.runner.log_lines import count

_NAMED = 8  # damaged places that one line names


class PlanMisled(Exception):
    """A chunk of a source without damage has other frames than its packets promised: ask the decoder for all."""


def check_chunk(index: Index, chunk: Chunk, piece: Piece, decoded: bool) -> None:
    """Holds a finished piece against its chunk. Where the decoder found damage, frames may be missing.

    Raises `PlanMisled`, or when the plan came from decoding (`decoded`) `EncodingFailed`.
    """
    if piece.frames == chunk.frames or (piece.damage and piece.frames < chunk.frames):
        return
    if not decoded:
        raise PlanMisled
    start = 0.0 if chunk.start is None else _seconds(index, chunk.start)
    raise EncodingFailed(
        f"{piece.frames} of the {count(chunk.frames, 'frame')} from {start:.2f} s on were computed, though the "
        "source is not damaged there. Send the request again; if that does not help, this is a fault of the service."
    )


def expected_of(index: Index, chunks: Sequence[Chunk], pieces: Mapping[int, Piece]) -> Expected:
    """What the joined file has to hold: the source's frames and times, less what damage took.

    Raises `UnsupportedVideo` when no frame of a damaged source is sound, `NothingProduced` when there is none.
    """
    made = [(chunk, pieces[chunk.number]) for chunk in chunks]
    if not any(piece.frames for _, piece in made):
        raise NothingProduced("No frame of the video could be decoded.", field="video_url")
    if sum(piece.frames for _, piece in made) <= sum(len(piece.damage) for _, piece in made):
        raise UnsupportedVideo(
            "The video is damaged in all its parts. " + " ".join(damage_lines(index, chunks, pieces))
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
    """The pieces of the output, or of the mask, in order; chunks without a frame have none."""
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


def damage_lines(index: Index, chunks: Sequence[Chunk], pieces: Mapping[int, Piece]) -> list[str]:
    """Which frames the damage of a source hit, and how many are left out for it; nothing for a sound source."""
    ticks = sorted({tick for piece in pieces.values() for tick in piece.damage})
    lost = sum(chunk.frames - pieces[chunk.number].frames for chunk in chunks)
    if not ticks and not lost:
        return []
    numbers = np.unique(np.clip(np.searchsorted(index.pts, ticks), 0, len(index.pts) - 1))
    places = [_place(index, int(run[0]), int(run[-1])) for run in _runs(numbers)]
    more = f" and {len(places) - _NAMED} more places" if len(places) > _NAMED else ""
    line = f"The source is damaged or interrupted at {', '.join(places[:_NAMED])}{more}."
    if lost:
        line += f" {count(lost, 'frame')} could not be decoded; the one before each lasts as much longer."
    return [f"{line} What could be decoded there may not look as it should."]


def audio_lines(audio: AudioInfo | None) -> list[str]:
    """What is to be said of an audio track. Raises `UnsupportedVideo` for one that cannot be decoded at all."""
    if audio is None or not audio.damaged:
        return []
    if audio.damaged == audio.packets:
        raise UnsupportedVideo(
            f"The audio track ({audio.codec}) cannot be decoded. Repair it, or leave it out with drop_audio."
        )
    return [f"{audio.damaged} of {audio.packets} packets of the audio track cannot be decoded."]


def _runs(numbers: np.ndarray) -> list[list[int]]:
    """Consecutive numbers together."""
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
