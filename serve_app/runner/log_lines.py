"""The lines of a job's log that describe something: for people, with true figures only."""

from __future__ import annotations

from serve_app.jobs.request import JobRequest
from serve_app.protocols import Index, MediaFile, PieceRef


def describe(index: Index) -> str:
    layout, audio = index.layout, index.audio
    sound = f"{audio.codec} {audio.sample_rate} Hz {audio.layout}" if audio else "no audio"
    return (
        f"{layout.width}x{layout.height}, {float(index.average_rate):.3f} frames/s, {count(len(index.pts), 'frame')}, "
        f"{index.duration_s:.2f} s, {index.codec}, {sound}"
    )


def network(piece: PieceRef, request: JobRequest) -> str:
    """Which network made the matte, on what, by which engine, and at which size."""
    by = piece.provenance
    height, width = by.size
    line = f"network: {by.checkpoint} on {by.device} ({by.engine}) at {width}x{height}"
    if max(by.size) < request.operating_size:
        line += f" (its largest size; {request.operating_size}x{request.operating_size} was asked for)"
    return line


def checked(file: MediaFile) -> str:
    return (
        f"checked {file.file_name}: {file.width}x{file.height}, {count(file.num_frames, 'frame')}, "
        f"{file.duration:.2f} s, {megabytes(file.file_size)}"
    )


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size} bytes"
