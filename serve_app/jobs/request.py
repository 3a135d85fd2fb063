"""The JSON columns of a job: the request that the runner reads, and the result that the API reads.

A result holds no URLs: they depend on how the client reached the service and are made for each reply. Unknown keys are
ignored, so that two versions can share one table during an upgrade.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from serve_app.fal import OutputType, Quality, Variant, WriteMode
from serve_app.protocols import MediaFile


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One validated request. The network sees frames of `operating_size` x `operating_size` pixels."""

    video_url: str
    variant: Variant = Variant.LIGHT
    operating_size: int = 1024
    output_mask: bool = False
    refine_foreground: bool = True
    sync_mode: bool = False
    output_type: OutputType = OutputType.MP4
    quality: Quality = Quality.HIGH
    write_mode: WriteMode = WriteMode.BALANCED
    drop_audio: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobRequest:
        """Parses `data`. Raises `KeyError`, `TypeError` or `ValueError` if it is not a request."""
        return cls(
            video_url=str(data["video_url"]),
            variant=Variant(data["variant"]),
            operating_size=int(data["operating_size"]),
            output_mask=bool(data["output_mask"]),
            refine_foreground=bool(data["refine_foreground"]),
            sync_mode=bool(data["sync_mode"]),
            output_type=OutputType(data["output_type"]),
            quality=Quality(data["quality"]),
            write_mode=WriteMode(data["write_mode"]),
            drop_audio=bool(data.get("drop_audio", False)),
        )


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a completed job. `inline`: one reply carries the files themselves, and they are not kept."""

    video: MediaFile
    mask_video: MediaFile | None = None
    inline: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobResult:
        mask = data.get("mask_video")
        return cls(_media(data["video"]), _media(mask) if mask else None, bool(data.get("inline", False)))


def _media(data: dict[str, Any]) -> MediaFile:
    return MediaFile(**{f.name: data[f.name] for f in fields(MediaFile)})
