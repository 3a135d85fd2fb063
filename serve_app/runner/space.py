"""Estimates the disk space that a job needs, before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.fal import OutputType, Quality
from serve_app.jobs.request import JobRequest
from serve_app.protocols import Index
from serve_app.runner.log_lines import count, megabytes

_QUALITIES = tuple(Quality)


def _row(*values: float) -> Mapping[Quality, float]:
    return dict(zip(_QUALITIES, values, strict=True))


# Bytes per pixel and frame, measured on a film in 1280x720 (a noisy source needs several times as much).
_PIECES = {
    OutputType.MP4: _row(0.01, 0.02, 0.04, 0.08),
    OutputType.WEBM: _row(0.015, 0.025, 0.04, 0.06),
    OutputType.MOV: _row(0.5, 0.7, 1.0, 1.4),
    OutputType.GIF: _row(0.5, 0.5, 0.5, 0.5),  # lossless, independent of the quality
}
_OUTPUT = _PIECES | {OutputType.GIF: _row(0.1, 0.15, 0.2, 0.25)}
_MASK = 0.25  # relative to the size of the cutout


def check_space(artifacts: Artifacts, request: JobRequest, index: Index) -> None:
    """Raise `StorageFull` if the local artifact store has too little free space for a job.

    Buckets are not checked; `Encoder.join` checks the scratch space of its own node.
    """
    if not artifacts.is_local:
        return
    need, free = space_needed(request, index), artifacts.free_bytes()
    if need > free:
        layout = index.layout
        raise StorageFull(
            f"The pieces and the output of {count(len(index.pts), 'frame')} of {layout.width}x{layout.height} need "
            f"about {megabytes(need)} in {artifacts.root}, but only {megabytes(free)} are free. Free some space, or "
            "choose a lower video_quality or another video_output_type."
        )


def space_needed(request: JobRequest, index: Index) -> int:
    """Estimated bytes of all pieces and the output, which exist side by side until the job ends."""
    pixels = index.layout.width * index.layout.height * len(index.pts)
    kind, quality = request.output_type, request.quality
    each = _PIECES[kind][quality] + _OUTPUT[kind][quality]
    return round(pixels * each * (1 + _MASK * request.output_mask))
