"""How much disk space a job will take, estimated before it begins."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.fal import OutputType, Quality
from serve_app.protocols import Index

_QUALITIES = tuple(Quality)


def _row(*values: float) -> Mapping[Quality, float]:
    return dict(zip(_QUALITIES, values, strict=True))


# Bytes per pixel and frame, of a film in 1280x720 (a noisy source takes several times as much).
_PIECES = {
    OutputType.MP4: _row(0.01, 0.02, 0.04, 0.08),
    OutputType.WEBM: _row(0.015, 0.025, 0.04, 0.06),
    OutputType.MOV: _row(0.5, 0.7, 1.0, 1.4),
    OutputType.GIF: _row(0.5, 0.5, 0.5, 0.5),  # without loss, whatever the palette
}
_OUTPUT = _PIECES | {OutputType.GIF: _row(0.1, 0.15, 0.2, 0.25)}
_MASK = 0.25  # of the picture's bytes


def space_needed(index: Index, output_type: OutputType, quality: Quality, mask: bool) -> int:
    """Bytes of all pieces and of the output, which lie side by side until the job ends."""
    pixels = index.layout.width * index.layout.height * len(index.pts)
    each = _PIECES[output_type][quality] + _OUTPUT[output_type][quality]
    return round(pixels * each * (1 + _MASK * mask))
