"""Settings of the work on a job: stages and their replicas, chunks, picture, runner."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from serve_app.settings.part import Part, Resources

EMBEDDED = "embedded"


class Scale(Part):
    """Autoscaling of one deployment. `target`: ongoing calls per replica."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target: float = Field(1.0, gt=0)
    max_ongoing: int = Field(2, ge=1)
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 60.0
    to_zero_delay_s: float = 300.0


class Stage(Part):
    """A CPU stage: logical CPUs per replica, threads of its codec, autoscaling."""

    num_cpus: float = 0.1
    resources: Resources = Field(default_factory=dict)
    threads: int = Field(1, ge=1)
    scale: Scale = Scale()


class SandboxSettings(Part):
    """Limits of each process that opens, decodes or writes media; see `serve_app.sandbox`.

    required: do not start where Landlock or seccomp is missing; without them the other limits hold.
    memory_bytes: of address space, beyond the interpreter and its libraries, and beyond eight times its frames while a
        chunk is encoded. A 7680x4320 picture has 50 to 265 MB, and decoders keep up to 16.
    cpu_s: for each thread of the codec; more than `runner.work_s`, which ends a call by time.
    file_bytes: size of an output.
    """

    required: bool = False
    memory_bytes: int = Field(4 << 30, ge=256 << 20)
    cpu_s: float = Field(1800.0, ge=1)
    file_bytes: int = Field(64 << 30, ge=1 << 20)


class SegmenterSettings(Part):
    """The segmenter of one variant.

    checkpoint: "embedded", a hub repository, a local directory, or None for the official repository.
    batch: frames per forward pass at 1024² (fewer at larger sizes, in proportion to the pixels); on a CPU always one.
    engine: what computes the network, or the import path of another engine; see `serve_app.segmentation.engines`.
    dtype: "auto" is bfloat16 where device, engine and checkpoint support it, else float32.
    """

    engine: str = Field("auto", pattern=r"^(auto|torch|torch-compiled|openvino|[\w.]+:\w+)$")
    checkpoint: str | None = EMBEDDED
    revision: str = "main"
    offline: bool = False  # use only the hub's cache, as filled by `birefnet-serve pull`
    lock: Path | None = None  # file of enforced commits and digests; default: in the data directory
    tile_orders: Path | None = None  # what `models --check` recorded; default: in the data directory
    cache: Path | None = None  # directory of networks compiled by OpenVINO; default: in the data directory
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch: int = Field(8, ge=1)
    threads: int = Field(2, ge=1)
    num_cpus: float = 0.1
    num_gpus: float = 0.0
    resources: Resources = Field(default_factory=dict)
    scale: Scale = Scale(min_replicas=0)


class ChunkSettings(Part):
    """How a source is cut into chunks; fixed per profile, so that repeated runs give the same bytes.

    max_bytes: of a chunk in the object store: decoded frames, colour of the cutout, matte. Two such chunks of each job
        (`runner.max_jobs`) should fit into `runner.max_object_bytes`.
    min_frames: takes precedence over `max_bytes`, up to eight times that: a GOP needs some frames.
    """

    max_bytes: int = Field(128 << 20, ge=1 << 20)
    max_frames: int = Field(24, ge=8, le=48)
    min_frames: int = Field(8, ge=1)


class PictureSettings(Part):
    """What becomes of colour and matte.

    keep_hdr: ProRes keeps PQ and HLG in ten bits with their tags; off: it gets BT.709, as the 8-bit outputs always do.
    snap_matte: levels up to 2 % are transparent and from 98 % opaque, so that the inside of a subject is the source's
    own; off: the reference's arithmetic, whose mattes are next to never opaque.
    """

    keep_hdr: bool = True
    snap_matte: bool = True


class RunnerSettings(Part):
    """The job loop. A lease is renewed after a third of its length; `work_s` limits one stage call.

    max_object_bytes: of a node's object store that chunks in flight may fill, over all models. Each of the `replicas`
        uses an equal part, as it cannot see the others' chunks. Each job may have two chunks in flight all the same.
    """

    replicas: int = Field(1, ge=1)
    resources: Resources = Field(default_factory=dict)
    max_jobs: int = Field(4, ge=1)
    max_attempts: int = Field(
        10, ge=1
    )  # runners lost without a finished chunk in between, before a job fails
    lease_s: float = 15.0
    poll_s: float = Field(0.25, le=0.25)
    capacity_wait_s: float = 1800.0
    work_s: float = 600.0
    max_object_bytes: int = Field(1 << 30, ge=1)
