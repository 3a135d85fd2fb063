"""The tree of all settings: the `args` of a profile under `config/`, overridable by environment variables.

`BIREFNET_DATA_DIR=/data` sets `data_dir`, `BIREFNET_FILES__PORT=9000` sets `files.port`. This is the only package that
reads the environment. The defaults suit a laptop with the embedded checkpoint; what a stranger could use is off
unless a profile says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from serve_app.fal import Variant
from serve_app.settings.inputs import AddressSettings, FetchSettings, SourceLimits
from serve_app.settings.quotas import Quota, QuotaSettings
from serve_app.settings.service import (
    AuthSettings,
    ExpirySettings,
    FilesSettings,
    IngressSettings,
    TlsSettings,
    UploadSettings,
    WebhookSettings,
)
from serve_app.settings.work import (
    EMBEDDED,
    ChunkSettings,
    PictureSettings,
    RunnerSettings,
    SandboxSettings,
    Scale,
    SegmenterSettings,
    Stage,
)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
EXPOSED = (
    "{} can be reached from other machines, and no key is asked for: require keys (BIREFNET_AUTH__REQUIRED=true, then "
    "`birefnet-serve keys create`), listen at 127.0.0.1, or confirm it (BIREFNET_AUTH__OPEN_TO_NETWORK=true)"
)

__all__ = [
    "EMBEDDED",
    "EXPOSED",
    "AddressSettings",
    "AuthSettings",
    "ChunkSettings",
    "ExpirySettings",
    "FetchSettings",
    "FilesSettings",
    "IngressSettings",
    "PictureSettings",
    "Quota",
    "QuotaSettings",
    "RunnerSettings",
    "SandboxSettings",
    "Scale",
    "SegmenterSettings",
    "Settings",
    "SourceLimits",
    "Stage",
    "TlsSettings",
    "UploadSettings",
    "WebhookSettings",
]


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
    sandbox: SandboxSettings = SandboxSettings()
    files: FilesSettings = FilesSettings()
    uploads: UploadSettings = UploadSettings()
    fetch: FetchSettings = FetchSettings()
    expiry: ExpirySettings = ExpirySettings()
    auth: AuthSettings = AuthSettings()
    quotas: QuotaSettings = QuotaSettings()
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
        if self.exposes(self.files.host):
            raise ValueError(EXPOSED.format(self.files.host))
        if self.artifacts and "://" in self.artifacts and self.secret is None:
            raise ValueError(
                "artifacts in a bucket need a `secret` that all nodes share: set BIREFNET_SECRET to a random text, "
                "such as `openssl rand -hex 32` prints"
            )
        body_bytes = self.quotas.overall.body_bytes
        if body_bytes is not None and body_bytes < self.ingress.max_body_bytes:
            raise ValueError(
                f"quotas.overall.body_bytes is {body_bytes}, less than one body may have: raise it to "
                f"ingress.max_body_bytes ({self.ingress.max_body_bytes}), or lower that"
            )
        return self

    def exposes(self, host: str) -> bool:
        """Whether listening at `host` lets whoever reaches this machine use it without a key, though none said so."""
        return not (self.auth.required or self.auth.open_to_network or host in LOOPBACK)

    @property
    def relaxations(self) -> list[str]:
        """What this profile permits although the defaults do not, in words for whoever starts it."""
        lines = []
        if not self.auth.required:
            who = "whoever reaches it" if self.auth.open_to_network else "programs of this machine"
            lines.append(
                f"no API key is asked for: {who} may use the service, pages of other origins may not"
            )
        if self.fetch.allow_private or self.webhooks.allow_private:
            lines.append("URLs of requests may lead to this machine and to private networks")
        return lines

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
            "tile_orders": chosen.tile_orders or self.data_dir / "tile-orders.json",
            "cache": chosen.cache or self.engines_dir,
        }
        chosen = chosen.model_copy(update=places)
        if variant == self.warm and chosen.scale.min_replicas == 0:
            scale = chosen.scale.model_copy(update={"min_replicas": 1})
            chosen = chosen.model_copy(update={"scale": scale})
        return chosen
