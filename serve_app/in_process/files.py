"""`remove_background`: from a file or URL to files, with the bytes that the service gives for the same request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from serve_app.api.schema import Resolution
from serve_app.artifacts.store import Artifacts
from serve_app.errors import FeatureNotSupported
from serve_app.fal import OutputType, Quality, Variant, WriteMode
from serve_app.in_process.stages import Stages, logger, request_of, workspace
from serve_app.jobs.names import JobNames
from serve_app.jobs.request import JobResult
from serve_app.protocols import Chunk, Index, MediaFile, Piece
from serve_app.runner import completeness, log_lines, plan
from serve_app.runner.space import check_space
from serve_app.settings import Settings
from serve_app.stages.piece_store import PieceStore
from serve_app.video.formats import output_format

Progress = Callable[[int, int], None]

_TYPES = {f".{output_format(kind).extension}": kind for kind in OutputType}
_NAMES = JobNames("job", 0)  # of the files in the temporary directory


def remove_background(
    source: str | Path,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    model: Variant | str = Variant.LIGHT,
    operating_resolution: Resolution | str = Resolution.R1024,
    refine_foreground: bool = True,
    video_quality: Quality | str = Quality.HIGH,
    video_write_mode: WriteMode | str = WriteMode.BALANCED,
    drop_audio: bool = False,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> JobResult:
    """Write the video `source` (a path or URL) without its background to `out`, and its mask to `mask`.

    The extension of `out` is that of an output type: .mp4, .webm, .mov or .gif; `mask` has the same. The other inputs
    are the endpoint's. progress: called with the numbers of finished and of all frames, after each chunk. settings: by
    default those of the environment (`BIREFNET_…`). A URL may lead to private addresses, but for those of `fetch.deny`.

    Returns the figures of the written files; `name` is a file's path. Files that exist are replaced at the end, so a
    failure leaves them as they were. Raises the `ServiceError` with which the service would answer, `FileNotFoundError`
    for a missing `source`, and `ValueError` for a value that an input does not have.
    """
    out, mask = Path(out), None if mask is None else Path(mask)
    request = request_of(
        source,
        model=model,
        operating_resolution=operating_resolution,
        output_mask=mask is not None,
        refine_foreground=refine_foreground,
        video_output_type=_output_type(out, mask),
        video_quality=video_quality,
        video_write_mode=video_write_mode,
        drop_audio=drop_audio,
    )
    settings = settings or Settings()
    out.parent.mkdir(parents=True, exist_ok=True)
    with workspace(request, settings, out.parent) as (path, directory):
        files = _Files(Stages(request, settings, path), Artifacts(directory), progress)
        made = files.make()
        video = _move(directory, made.video, out)
        mask_video = _move(directory, made.mask_video, mask) if made.mask_video and mask else None
    return JobResult(video, mask_video)


def _output_type(out: Path, mask: Path | None) -> OutputType:
    suffix = out.suffix.lower()
    if suffix not in _TYPES:
        raise FeatureNotSupported(
            f"{out} has no extension of an output type: {', '.join(_TYPES)}.", "video_output_type"
        )
    if mask is not None and mask.suffix.lower() != suffix:
        raise FeatureNotSupported(
            f"The mask has the type of the output: name it {mask.with_suffix(suffix)}.", "output_mask"
        )
    if mask == out:
        raise FeatureNotSupported(f"The mask needs a name of its own, other than {out}.", "output_mask")
    return _TYPES[suffix]


class _Files:
    """Makes the files of one request in `artifacts`, as runner and encoder of the service do."""

    def __init__(self, stages: Stages, artifacts: Artifacts, progress: Progress | None) -> None:
        self._stages, self._artifacts, self._progress = stages, artifacts, progress
        self._request, self._settings = stages.request, stages.settings
        self._store = PieceStore(artifacts, stages)

    def make(self) -> JobResult:
        request, index = self._request, self._stages.index()
        layout = plan.output_layout(request, index, self._settings.picture)
        _log(
            f"indexed: {log_lines.describe(index)}", *log_lines.treatment(index, layout, request.output_type)
        )
        _warn(*index.damage, *completeness.audio_lines(index.audio))
        check_space(self._artifacts, request, index)
        try:
            chunks, pieces = self._pieces(index, decoded=index.sequential)
        except completeness.PlanMismatch:
            index = self._stages.index(decode=True)
            chunks, pieces = self._pieces(index, decoded=True)
        _warn(*completeness.damage_lines(index, chunks, pieces))
        video = self._join(index, chunks, pieces, mask=False)
        return JobResult(video, self._join(index, chunks, pieces, mask=True) if request.output_mask else None)

    def _pieces(self, index: Index, decoded: bool) -> tuple[list[Chunk], dict[int, Piece]]:
        request, done, total = self._request, 0, len(index.pts)
        encoding = plan.encode_settings(request, index, self._settings.picture)
        layout = plan.output_layout(request, index, self._settings.picture)
        chunks = plan.plan_chunks(index, self._settings.chunk, layout)
        pieces: dict[int, Piece] = {}
        self._report(done, total)
        with closing(self._stages.cutouts(index, chunks)) as cutouts:
            for chunk, cutout in cutouts:
                name = _NAMES.piece(chunk.number)
                mask_name = _NAMES.mask_piece(chunk.number) if request.output_mask else None
                piece = self._store.encode(cutout, encoding, name, mask_name, _never)
                completeness.check_chunk(index, chunk, piece, decoded)
                if not pieces:
                    _log(log_lines.network(piece, request))
                pieces[chunk.number] = piece
                done += piece.frames
                self._report(done, total)
        return chunks, pieces

    def _join(self, index: Index, chunks: list[Chunk], pieces: dict[int, Piece], mask: bool) -> MediaFile:
        join = plan.join_request(
            plan.encode_settings(self._request, index, self._settings.picture),
            index,
            completeness.join_pieces_of(pieces, mask),
            completeness.expected_of(index, chunks, pieces),
            _NAMES.source,
            _NAMES.output("mask" if mask else "output", output_format(self._request.output_type).extension),
            mask,
        )
        media = self._store.join(join, self._stages.path, _never)
        _log(log_lines.checked(media))
        return media

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)


def _move(directory: Path, file: MediaFile, target: Path) -> MediaFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(directory / file.name, target)
    return replace(file, name=str(target), file_name=target.name)


def _log(*lines: str) -> None:
    for line in lines:
        logger.info(line)


def _warn(*lines: str) -> None:
    for line in lines:
        logger.warning(line)


def _never() -> bool:
    return False
