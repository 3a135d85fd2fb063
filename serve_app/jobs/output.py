"""The output object of a completed job, as replies and webhooks carry it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from serve_app.artifacts.store import Artifacts
from serve_app.jobs.model import Json
from serve_app.jobs.request import JobResult
from serve_app.protocols import MediaFile


def output_of(result: JobResult, url: Callable[[MediaFile], str]) -> Json:
    """The output object; it has `mask_video` if a mask was requested."""
    output = {"video": _file(result.video, url)}
    return output | {"mask_video": _file(result.mask_video, url)} if result.mask_video else output


def data_uri(artifacts: Artifacts, file: MediaFile) -> str:
    """The file as a data URI. Raises `FileNotFoundError` if it was deleted."""
    with artifacts.local_path(file.name) as path:
        return f"data:{file.content_type};base64,{b64encode(path.read_bytes()).decode()}"


def _file(media: MediaFile, url: Callable[[MediaFile], str]) -> Json:
    return {
        "url": url(media),
        "content_type": media.content_type,
        "file_name": media.file_name,
        "file_size": media.file_size,
        "width": media.width,
        "height": media.height,
        "fps": media.fps,
        "duration": media.duration,
        "num_frames": media.num_frames,
    }
