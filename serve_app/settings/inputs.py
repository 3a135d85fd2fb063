"""Settings of what strangers may hand in: where URLs may lead, and what a source may be."""

from __future__ import annotations

from pydantic import Field, IPvAnyNetwork

from serve_app.settings.part import Part


class AddressSettings(Part):
    """Where clients' URLs may lead: networks such as "10.1.0.0/16"; `deny` takes precedence. ports: None means all."""

    allow_private: bool = False  # addresses of this machine and of private networks
    allow: tuple[IPvAnyNetwork, ...] = ()
    deny: tuple[IPvAnyNetwork, ...] = ()
    ports: tuple[int, ...] | None = None


class FetchSettings(AddressSettings):
    """Limits of fetching a source. keep_free_bytes: the free space that it leaves on the disk."""

    max_bytes: int = 20 << 30
    keep_free_bytes: int = Field(1 << 30, ge=0)
    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 3600.0
    max_redirects: int = Field(5, ge=0)


class SourceLimits(Part):
    """What a source may be: checked on its headers, before a frame is decoded. max_seconds: pauses included."""

    max_side: int = Field(8192, ge=1, le=8192)
    max_pixels: int = Field(7680 * 4320, ge=1)
    max_frames: int = Field(3_000_000, ge=1)
    max_seconds: float = Field(86400.0, gt=0)
    max_streams: int = Field(256, ge=1)  # a broadcast holds about a hundred
