"""`cutouts`: the frames of a video without their background, as arrays."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.api.schema import Resolution
from serve_app.errors import NothingProduced
from serve_app.fal import OutputType, Variant
from serve_app.in_process.stages import Stages, logger, request_of, workspace
from serve_app.jobs.request import JobRequest
from serve_app.runner import completeness
from serve_app.runner.completeness import Decoded
from serve_app.runner.plan import output_layout, plan_chunks
from serve_app.settings import Settings


@dataclass(frozen=True, slots=True)
class CutoutFrame:
    """One frame without its background.

    pts, duration: seconds, as `remove_background` would show the frame.
    rgb: [H, W, 3] uint8, upright, not premultiplied; HDR and wide gamuts are mapped to BT.709.
    matte: [H, W] uint8, 255 = subject.
    """

    pts: Fraction
    duration: Fraction
    rgb: npt.NDArray[np.uint8]
    matte: npt.NDArray[np.uint8]

    @property
    def rgba(self) -> npt.NDArray[np.uint8]:
        """[H, W, 4] uint8: the colours with the matte as alpha."""
        return np.dstack((self.rgb, self.matte))


def cutouts(
    source: str | Path,
    *,
    model: Variant | str = Variant.LIGHT,
    operating_resolution: Resolution | str = Resolution.R1024,
    refine_foreground: bool = True,
    settings: Settings | None = None,
) -> Generator[CutoutFrame]:
    """Yield the frames of `source` (a path or URL) in order, as arrays; parameters and errors as `remove_background`.

    Damage of the source is logged as a warning (logger `serve_app`), that found while decoding after the last frame.
    Samples that are not square are scaled to squares, as in WebM and GIF. The work is a chunk ahead of the frames that
    are taken, and ends when the iterator is closed.
    """
    # The layout of a GIF: R, G and B in 8 bits, with an alpha channel beside them.
    request = request_of(
        source,
        model=model,
        operating_resolution=operating_resolution,
        refine_foreground=refine_foreground,
        video_output_type=OutputType.GIF,
    )
    return _frames(request, settings or Settings())


def _frames(request: JobRequest, settings: Settings) -> Generator[CutoutFrame]:
    with workspace(request, settings) as (path, _):
        stages = Stages(request, settings, path)
        index = stages.index()
        for line in index.damage:
            logger.warning(line)
        chunks = plan_chunks(index, settings.chunk, output_layout(request, index, settings.picture))
        decoded: dict[int, Decoded] = {}
        held: tuple[int, Any, Any] | None = None  # its duration depends on the next frame

        def frame(tick: int, rgb: Any, matte: Any, end: int) -> CutoutFrame:
            step = index.time_base
            return CutoutFrame((tick - index.origin) * step, (end - tick) * step, rgb, matte)

        with closing(stages.cutouts(index, chunks)) as made:
            for chunk, cutout in made:
                # Without damage, a packet without a frame was none: a hidden frame of VP9, for example.
                damage = cutout.colour.damage
                decoded[chunk.number] = Decoded(len(cutout.colour) if damage else chunk.frames, damage)
                for row, pts in enumerate(cutout.colour.pts.tolist()):
                    if held is not None:
                        yield frame(*held, end=pts)
                    rgb = np.stack([plane[row] for plane in cutout.colour.planes], axis=-1)
                    held = pts, rgb, cutout.matte[row].copy()
        for line in completeness.damage_lines(index, chunks, decoded):
            logger.warning(line)
        if held is None:
            raise NothingProduced("No frame of the video could be decoded.", field="video_url")
        end = int(index.pts[-1]) + index.last_duration
        yield frame(*held, end=end if end > held[0] else held[0] + index.frame_duration)
