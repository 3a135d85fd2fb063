"""The JSON contract of the endpoint: nine inputs and an extension, the output, and how they map to jobs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from serve_app.errors import FeatureNotSupported
from serve_app.fal import OutputType, Quality, Variant, WriteMode
from serve_app.jobs.request import JobRequest


class Resolution(StrEnum):
    """The three values of `operating_resolution`."""

    R1024 = "1024x1024"
    R2048 = "2048x2048"
    R2304 = "2304x2304"

    @property
    def size(self) -> int:
        return int(self.value.partition("x")[0])


class VideoInput(BaseModel):
    """A request to remove the background of a video."""

    model_config = ConfigDict(title="BirefnetV2VideoInput", extra="ignore")

    video_url: str = Field(
        description="URL of the video (http or https), or the video itself as a data URI.",
        examples=["https://storage.googleapis.com/falserverless/example_inputs/birefnet-video-input.mp4"],
    )
    model: Variant = Field(
        Variant.LIGHT,
        description="Which network cuts out the subject. 'General Use (Light)' suits most videos; "
        "'General Use (Light 2K)' is for 2K images; 'General Use (Heavy)' is the lite network; 'Matting' and "
        "'Portrait' give soft edges, such as hair; 'General Use (Dynamic)' handles any resolution.",
    )
    operating_resolution: Resolution = Field(
        Resolution.R1024,
        description="The size at which the network processes each frame: larger is finer and slower. "
        "2304x2304 works only with 'General Use (Dynamic)'.",
    )
    output_mask: bool = Field(False, description="Whether to return the mask as a second video.")
    refine_foreground: bool = Field(
        True, description="Whether to estimate the subject's own colours where it mixes with the background."
    )
    sync_mode: bool = Field(False, description="Whether to return the media as data URIs in the reply.")
    video_output_type: OutputType = Field(
        OutputType.MP4,
        description="Container and codec of the output. WebM and MOV keep transparency; MP4 shows the subject "
        "over black.",
    )
    video_quality: Quality = Field(Quality.HIGH, description="Quality of the output video.")
    video_write_mode: WriteMode = Field(
        WriteMode.BALANCED, description="Whether encoding favours speed or a small file."
    )
    drop_audio: bool = Field(
        False, description="Extension of this service: whether to leave the audio out of the output."
    )

    def to_request(self) -> JobRequest:
        """Converts the input to the form that the job table stores."""
        return JobRequest(
            video_url=self.video_url,
            variant=self.model,
            operating_size=self.operating_resolution.size,
            output_mask=self.output_mask,
            refine_foreground=self.refine_foreground,
            sync_mode=self.sync_mode,
            output_type=self.video_output_type,
            quality=self.video_quality,
            write_mode=self.video_write_mode,
            drop_audio=self.drop_audio,
        )


class VideoFile(BaseModel):
    """A finished video file and its properties."""

    model_config = ConfigDict(title="VideoFile")

    url: str = Field(description="Download URL.")
    content_type: str | None = Field(None, description="Media type.", examples=["video/webm"])
    file_name: str | None = Field(None, description="File name for saving.")
    file_size: int | None = Field(None, description="File size in bytes.")
    width: int | None = Field(None, description="Width in pixels.")
    height: int | None = Field(None, description="Height in pixels.")
    fps: float | None = Field(None, description="Frames per second.")
    duration: float | None = Field(None, description="Length in seconds.")
    num_frames: int | None = Field(None, description="Number of frames.")


class VideoOutput(BaseModel):
    """The output of a request. `mask_video` is present only if the mask was requested."""

    model_config = ConfigDict(title="BirefnetV2VideoOutput")

    video: VideoFile = Field(description="The video without its background.")
    mask_video: VideoFile | None = Field(None, description="The mask: white is the subject.")


def check_supported(video: VideoInput) -> None:
    """Raises `FeatureNotSupported` for a combination of valid values that is not supported."""
    if video.operating_resolution is Resolution.R2304 and video.model is not Variant.DYNAMIC:
        raise FeatureNotSupported(
            f"operating_resolution '2304x2304' works only with model '{Variant.DYNAMIC}'. "
            "Choose that model or a smaller resolution.",
            "operating_resolution",
        )
