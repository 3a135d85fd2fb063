"""The tree of all settings: the `args` of a profile under `config/`, overridable by environment variables.

`BIREFNET_DATA_DIR=/data` sets `data_dir`, `BIREFNET_FILES__PORT=9000` sets `files.port`. This is the only module that
reads the environment. The defaults suit a laptop with the embedded checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from serve_app.fal import Variant

EMBEDDED = "embedded"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Part):
    """Autoscaling of one deployment. `target`: ongoing calls per replica."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target: float = Field(1.0, gt=0)
    max_ongoing: int = Field(2, ge=1)
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 60.0
    to_zero_delay_s: float = 300.0


class Stage(_Part):
    """A CPU stage: logical CPUs per replica, threads of its codec, autoscaling."""

    num_cpus: float = 0.1
    threads: int = Field(1, ge=1)
    scale: Scale = Scale()


class SegmenterSettings(_Part):
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
    cache: Path | None = None  # directory of networks compiled by OpenVINO; default: in the data directory
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch: int = Field(8, ge=1)
    threads: int = Field(2, ge=1)
    num_cpus: float = 0.1
    num_gpus: float = 0.0
    scale: Scale = Scale(min_replicas=0)


class ChunkSettings(_Part):
    """How a source is cut into chunks; fixed per profile, so that repeated runs give the same bytes.

    min_frames: takes precedence over `max_bytes` (of raw frames), up to four times that: a GOP needs some frames.
    """

    max_bytes: int = Field(100 << 20, ge=1 << 20)
    max_frames: int = Field(24, ge=8, le=48)
    min_frames: int = Field(8, ge=1)


class PictureSettings(_Part):
    """What becomes of colour and matte.

    keep_hdr: ProRes keeps PQ and HLG in ten bits with their tags; off: it gets BT.709, as the 8-bit outputs always do.
    snap_matte: levels up to 2 % are transparent and from 98 % opaque, so that the inside of a subject is the source's
    own; off: the reference's arithmetic, whose mattes are next to never opaque.
    """

    keep_hdr: bool = True
    snap_matte: bool = True


class IngressSettings(_Part):
    replicas: int = Field(1, ge=1)
    max_waiting: int = Field(64, ge=1)  # synchronous requests that may wait in one replica
    max_body_bytes: int = 512 << 20  # data URIs included; the job table cannot store a gigabyte in one value


class RunnerSettings(_Part):
    """The job loop. A lease is renewed after a third of its length; `work_s` limits one stage call."""

    replicas: int = Field(1, ge=1)
    max_jobs: int = Field(4, ge=1)
    max_attempts: int = Field(10, ge=1)  # runners lost during one job before it fails
    lease_s: float = 15.0
    poll_s: float = Field(0.25, le=0.25)
    capacity_wait_s: float = 1800.0
    work_s: float = 600.0
    max_object_bytes: int = 1 << 30  # limits a model's window; each job may still have two chunks in flight


class FilesSettings(_Part):
    """The file server.

    public_url: its URL as clients see it, if it differs from the request's host.
    upstream: URL of Serve's HTTP proxy, if clients reach the API through the file server's port too.
    drain_s: how long transfers may continue when the server stops, before they are closed.
    """

    host: str = "127.0.0.1"
    port: int = Field(8001, ge=1, le=65535)
    public_url: str | None = None
    upstream: str | None = None
    drain_s: float = Field(10.0, ge=1)


class UploadSettings(_Part):
    """Limits of uploads, in parts or not."""

    max_bytes: int = 20 << 30
    lifetime_s: float | None = Field(7 * 86400.0, gt=0)  # if the client requests none; None: forever
    idle_s: float = Field(120.0, gt=0)  # without data, until the upload is aborted


class TlsSettings(_Part):
    """PEM files for https, of the API and the file server; `birefnet-serve up --tls` sets them."""

    certificate: Path
    key: Path


class ExpirySettings(_Part):
    """Retention of finished jobs, in seconds after their end (None: forever)."""

    files_s: float | None = Field(7 * 86400.0, gt=0)
    jobs_s: float | None = Field(30 * 86400.0, gt=0)  # rows are never deleted before their files
    unkept_s: float = Field(3600.0, gt=0)  # of results that the client asked not to keep
    every_s: float = Field(60.0, gt=0)  # interval of the sweeper


class AddressSettings(_Part):
    """Where clients' URLs may lead: networks such as "10.1.0.0/16"; `deny` takes precedence. ports: None means all."""

    allow_private: bool = True  # local profile: sources and receivers of webhooks may be on this machine
    allow: tuple[IPvAnyNetwork, ...] = ()
    deny: tuple[IPvAnyNetwork, ...] = ()
    ports: tuple[int, ...] | None = None


class FetchSettings(AddressSettings):
    """Limits of fetching a source."""

    max_bytes: int = 20 << 30
    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 3600.0
    max_redirects: int = Field(5, ge=0)


class SourceLimits(_Part):
    """What a source may be: checked on its headers, before a frame is decoded. max_seconds: pauses included."""

    max_side: int = Field(8192, ge=1, le=8192)
    max_pixels: int = Field(7680 * 4320, ge=1)
    max_frames: int = Field(3_000_000, ge=1)
    max_seconds: float = Field(86400.0, gt=0)


class AuthSettings(_Part):
    """Whether clients need an API key. A verified key is cached for `cache_s` seconds, even if it is revoked."""

    required: bool = False
    cache_s: float = Field(5.0, ge=0)


class WebhookSettings(AddressSettings):
    """Delivery of webhooks. The delay between attempts doubles from `first_delay_s` to `longest_delay_s`.

    key_file: the signing keys, shared by all processes of a cluster; default: in the data directory.
    max_open: concurrent attempts, of which at most `max_per_receiver` to one receiver.
    max_inline_bytes: of the files of a sync_mode result; with more, the receiver must fetch the result.
    """

    key_file: Path | None = None
    first_limit_s: float = Field(15.0, gt=0)
    retry_limit_s: float = Field(120.0, gt=0)
    max_retries: int = Field(31, ge=0)
    first_delay_s: float = Field(10.0, ge=0)
    longest_delay_s: float = Field(6 * 3600.0, ge=0)
    max_open: int = Field(64, ge=1)
    max_per_receiver: int = Field(4, ge=1)
    max_inline_bytes: int = Field(8 << 20, ge=0)
    poll_s: float = Field(0.5, gt=0)


class Settings(BaseSettings):
    """The root of the tree."""

    model_config = SettingsConfigDict(env_prefix="BIREFNET_", env_nested_delimiter="__", extra="forbid")

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".birefnet-serve")
    database: str | None = None  # postgresql://… ; None: SQLite in the data directory
    artifacts: str | None = None  # s3://, gs:// or az:// with bucket and prefix; None: in the data directory
    node_cache_bytes: int = Field(20 << 30, ge=0)  # size of a node's cache of a bucket's artifacts
    secret: SecretStr | None = None  # signs URLs, the same in all processes; None: in the data directory
    public_url: str | None = None  # of the API as clients see it, if it differs from the request's host
    tls: TlsSettings | None = None
    max_inline_bytes: int = 64 << 20  # of a sync_mode result; base64 makes a third more of it
    drop_audio: bool = False  # of every output; a request may ask for it too
    source: SourceLimits = SourceLimits()
    chunk: ChunkSettings = ChunkSettings()
    picture: PictureSettings = PictureSettings()
    ingress: IngressSettings = IngressSettings()
    runner: RunnerSettings = RunnerSettings()
    files: FilesSettings = FilesSettings()
    uploads: UploadSettings = UploadSettings()
    fetch: FetchSettings = FetchSettings()
    expiry: ExpirySettings = ExpirySettings()
    auth: AuthSettings = AuthSettings()
    webhooks: WebhookSettings = WebhookSettings()
    decoder: Stage = Stage()
    encoder: Stage = Stage(scale=Scale(max_ongoing=2))
    segmenter: SegmenterSettings = SegmenterSettings()
    segmenters: dict[Variant, SegmenterSettings] = Field(default_factory=dict)
    warm: Variant | None = Variant.LIGHT  # this variant keeps a replica when idle

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: Source,
        env_settings: Source,
        dotenv_settings: Source,
        file_secret_settings: Source,
    ) -> tuple[Source, ...]:
        """The environment takes precedence over the profile; there are no other sources."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        self.data_dir = self.data_dir.expanduser().absolute()
        if self.artifacts and "://" in self.artifacts and self.secret is None:
            raise ValueError(
                "artifacts in a bucket need a `secret` that all nodes share: set BIREFNET_SECRET to a random text, "
                "such as `openssl rand -hex 32` prints"
            )
        return self

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'jobs.sqlite'}"

    @property
    def artifacts_url(self) -> str | Path:
        return self.artifacts or self.data_dir / "artifacts"

    @property
    def scratch_dir(self) -> Path:
        """The node's directory for unfinished files and copies, if the artifacts are in a bucket."""
        return self.data_dir / "scratch"

    @property
    def engines_dir(self) -> Path:
        """The node's directory of compiled networks, unless a variant has its own."""
        return self.segmenter.cache or self.data_dir / "engines"

    @property
    def secret_text(self) -> str | None:
        return self.secret.get_secret_value() if self.secret else None

    @property
    def webhook_key_file(self) -> Path:
        return self.webhooks.key_file or self.data_dir / "webhook-keys.json"

    def segmenter_for(self, variant: Variant) -> SegmenterSettings:
        """The common settings, overridden by those of `variant`; the warm variant never scales to zero."""
        chosen = self.segmenter
        if variant in self.segmenters:
            own = self.segmenters[variant].model_dump(exclude_unset=True)
            scale = chosen.scale.model_copy(update=own.pop("scale", {}))
            chosen = chosen.model_copy(update={**own, "scale": scale})
        places = {
            "lock": chosen.lock or self.data_dir / "checkpoints.lock.json",
            "cache": chosen.cache or self.engines_dir,
        }
        chosen = chosen.model_copy(update=places)
        if variant == self.warm and chosen.scale.min_replicas == 0:
            scale = chosen.scale.model_copy(update={"min_replicas": 1})
            chosen = chosen.model_copy(update={"scale": scale})
        return chosen
