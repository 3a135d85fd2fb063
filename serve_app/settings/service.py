"""Settings of what clients talk to: ingress, files, uploads, keys, webhooks, and how long results are kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from serve_app.settings.inputs import AddressSettings
from serve_app.settings.part import Part, Resources


class IngressSettings(Part):
    replicas: int = Field(1, ge=1)
    resources: Resources = Field(default_factory=dict)
    max_waiting: int = Field(64, ge=1)  # synchronous requests that may wait in one replica
    body_s: float = Field(900.0, gt=0)  # within which a request's body has to arrive
    max_body_bytes: int = 512 << 20  # data URIs included; the job table cannot store a gigabyte in one value


class FilesSettings(Part):
    """The file server.

    public_url: its URL as clients see it, if it differs from the request's host.
    upstream: URL of Serve's HTTP proxy, if clients reach the API through the file server's port too.
    drain_s: how long transfers may continue when the server stops, before they are closed.
    """

    host: str = "127.0.0.1"
    port: int = Field(8001, ge=1, le=65535)
    public_url: str | None = None
    upstream: str | None = None
    resources: Resources = Field(default_factory=dict)
    drain_s: float = Field(10.0, ge=1)


class UploadSettings(Part):
    """Limits of uploads, in parts or not.

    keep_free_bytes: the free space that uploads leave on the disk, for the jobs.
    """

    max_bytes: int = 20 << 30
    keep_free_bytes: int = Field(1 << 30, ge=0)
    lifetime_s: float | None = Field(7 * 86400.0, gt=0)  # if the client requests none; None: forever
    idle_s: float = Field(120.0, gt=0)  # without data, until the upload is aborted


class TlsSettings(Part):
    """PEM files for https, of the API and the file server; `birefnet-serve up --tls` sets them."""

    certificate: Path
    key: Path


class ExpirySettings(Part):
    """Retention of finished jobs, in seconds after their end (None: forever)."""

    files_s: float | None = Field(7 * 86400.0, gt=0)
    jobs_s: float | None = Field(30 * 86400.0, gt=0)  # rows are never deleted before their files
    unkept_s: float = Field(3600.0, gt=0)  # of results that the client asked not to keep
    every_s: float = Field(60.0, gt=0)  # interval of the sweeper


class AuthSettings(Part):
    """Whether clients need an API key. A verified key is cached for `cache_s` seconds, even if it is revoked.

    Without keys only this machine's programs and this service's pages are answered. hosts: further names under which
    it may be asked. origins: of further pages, such as "http://localhost:3000". open_to_network: whoever reaches this
    machine may use the service; without it, an address other than loopback is refused at the start.
    """

    required: bool = True
    cache_s: float = Field(5.0, ge=0)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    open_to_network: bool = False


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
