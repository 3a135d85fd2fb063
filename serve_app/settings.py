"""All settings, one tree: the `args` of a profile under `config/`, overridable by environment variables.

`BIREFNET_DATA_DIR=/data` sets `data_dir`, `BIREFNET_FILES__PORT=9000` sets `files.port`. This is the only
module that reads the environment. Every default is that of a laptop with the embedded checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve_app.protocols import Variant

EMBEDDED = "embedded"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Part):
    """Replicas of one deployment. `target`: ongoing calls per replica that autoscaling aims at."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target: float = Field(1.0, gt=0)
    max_ongoing: int = Field(2, ge=1)
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 60.0
    to_zero_delay_s: float = 300.0


class Stage(_Part):
    """A CPU stage: logical CPUs per replica, threads that its codec may use, scaling."""

    num_cpus: float = 0.1
    threads: int = Field(1, ge=1)
    scale: Scale = Scale()


class SegmenterSettings(_Part):
    """One variant's network.

    checkpoint: "embedded", a hub repository, a local directory, or None for the official repository.
    batch: frames per forward pass at 1024² (fewer at larger sizes, in proportion to the pixels).
    engine: import path of the function that makes the engine; benchmarks put a sleeping one there.
    """

    engine: str = "serve_app.stages.cutout:make_engine"

    checkpoint: str | None = EMBEDDED
    revision: str = "main"
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch: int = Field(8, ge=1)
    threads: int = Field(2, ge=1)
    num_cpus: float = 0.1
    num_gpus: float = 0.0
    scale: Scale = Scale(min_replicas=0)


class ChunkSettings(_Part):
    """How a source is cut; fixed per profile, so that a repeated run gives the same bytes."""

    max_bytes: int = Field(100 << 20, ge=1 << 20)
    max_frames: int = Field(24, ge=8, le=48)
    min_frames: int = Field(8, ge=1)


class IngressSettings(_Part):
    replicas: int = Field(1, ge=1)
    max_waiting: int = Field(64, ge=1)  # synchronous requests that one replica lets wait


class RunnerSettings(_Part):
    """The job loop. A lease is renewed at a third of its length; `work_s` bounds one stage call."""

    replicas: int = Field(1, ge=1)
    max_jobs: int = Field(4, ge=1)
    lease_s: float = 15.0
    poll_s: float = Field(0.25, le=0.25)
    capacity_wait_s: float = 1800.0
    work_s: float = 600.0
    max_object_bytes: int = 1 << 30  # of frames and cutouts in flight, all jobs together


class FilesSettings(_Part):
    """The file server's own address. `public_url`: what clients see, when it is not the host they asked."""

    host: str = "127.0.0.1"
    port: int = Field(8001, ge=1, le=65535)
    public_url: str | None = None


class FetchSettings(_Part):
    max_bytes: int = 20 << 30
    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 3600.0
    allow_private: bool = True  # local profile: http://127.0.0.1/… is a fine source


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(env_prefix="BIREFNET_", env_nested_delimiter="__", extra="forbid")

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".birefnet-serve")
    max_frame_pixels: int = 7680 * 4320
    chunk: ChunkSettings = ChunkSettings()
    ingress: IngressSettings = IngressSettings()
    runner: RunnerSettings = RunnerSettings()
    files: FilesSettings = FilesSettings()
    fetch: FetchSettings = FetchSettings()
    decoder: Stage = Stage()
    encoder: Stage = Stage(scale=Scale(max_ongoing=2))
    segmenter: SegmenterSettings = SegmenterSettings()
    segmenters: dict[Variant, SegmenterSettings] = Field(default_factory=dict)
    warm: Variant | None = Variant.LIGHT  # this variant keeps a replica when idle

    @model_validator(mode="after")
    def _absolute(self) -> Settings:
        self.data_dir = self.data_dir.expanduser().absolute()
        return self

    @property
    def database_url(self) -> str:
        return f"sqlite+aiosqlite:///{self.data_dir / 'jobs.sqlite'}"

    @property
    def artifacts_dir(self) -> Path:
        return self.data_dir / "artifacts"

    @property
    def scratch_dir(self) -> Path:
        return self.data_dir / "scratch"

    def segmenter_for(self, variant: Variant) -> SegmenterSettings:
        """A variant's own settings, or the common ones; the warm variant never scales to zero."""
        chosen = self.segmenters.get(variant, self.segmenter)
        if variant == self.warm and chosen.scale.min_replicas == 0:
            scale = chosen.scale.model_copy(update={"min_replicas": 1})
            chosen = chosen.model_copy(update={"scale": scale})
        return chosen
