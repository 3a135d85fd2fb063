"""Profiles under `config/`, as far as a service on this machine needs them: settings, addresses, certificates."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_app.errors import SetupError
from serve_app.local.certs import check, missing_vendor_names
from serve_app.settings import Settings, TlsSettings


class StartError(SetupError):
    """The machine or the profile keeps the service from starting; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A Serve config file. `host` and `port` are those of Serve's own proxy."""

    host: str
    port: int
    name: str
    settings: Settings

    @classmethod
    def load(cls, path: Path, port: int | None = None, **overrides: Any) -> Profile:
        """Reads a config file. `overrides` are fields of `Settings` (nested ones as dicts) and take precedence.

        Raises `StartError` if the file is missing or invalid.
        """
        if not path.is_file():
            raise StartError(f"{path} does not exist: pass a profile such as config/local.yaml")
        document = yaml.safe_load(path.read_text()) or {}
        application = next(iter(document.get("applications") or [{}]))
        if application.get("import_path") != "serve_app.app:build":
            raise StartError(
                f"{path} is not a profile of this service: its import_path must be serve_app.app:build"
            )
        try:
            settings = Settings(**(application.get("args") or {}))
        except ValidationError as error:
            raise StartError(f"{path} is not a valid profile: {error}") from error
        for key, value in overrides.items():  # the command line overrides file and environment
            if isinstance(value, dict):
                value = getattr(settings, key).model_copy(update=value)
            settings = settings.model_copy(update={key: value})
        http = document.get("http_options") or {}
        return cls(
            host=http.get("host", "127.0.0.1"),
            port=port or http.get("port", 8000),
            name=application.get("name", "default"),
            settings=settings,
        )

    @property
    def logs_dir(self) -> Path:
        return self.settings.data_dir / "logs"

    @property
    def tls_dir(self) -> Path:
        """Where `birefnet-serve certs` puts this profile's certificates."""
        return self.settings.data_dir.absolute() / "tls"

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        scheme = "https" if self.settings.tls else "http"
        listener = self.settings.files if self.settings.files.upstream else self
        host = "127.0.0.1" if listener.host in ("0.0.0.0", "::") else listener.host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{listener.port}"

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """TLS verification for httpx clients on this machine: trusts exactly the service's own certificate.

        Neither its issuer nor its names are checked, since the service serves this very file.
        """
        if self.settings.tls is None:
            return True
        context = ssl.create_default_context(cafile=self.settings.tls.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context

    def with_tls(self) -> Profile:
        """Returns the profile served over https, with its own certificate or else the one in `tls_dir`."""
        if self.settings.tls is not None:
            return self
        tls = TlsSettings(certificate=self.tls_dir / "cert.pem", key=self.tls_dir / "key.pem")
        return replace(self, settings=self.settings.model_copy(update={"tls": tls}))

    def with_names(self) -> Profile:
        """Returns the profile served on one port, under the vendor's host names too.

        The file server becomes the reverse proxy, and Serve's proxy moves to a free loopback port behind it. Raises
        `SetupError` without a certificate for those names.
        """
        tls = self.settings.tls
        if tls is None:
            raise StartError("clients reach the vendor's host names only over https: add --tls to --names")
        check(tls.certificate, tls.key)
        if missing := missing_vendor_names(tls.certificate):
            raise StartError(
                f"{tls.certificate} does not cover {', '.join(missing)}: create one with `birefnet-serve certs --names`"
            )
        port = free_port()
        files = self.settings.files.model_copy(
            update={"host": self.host, "port": self.port, "upstream": f"http://127.0.0.1:{port}"}
        )
        settings = self.settings.model_copy(update={"files": files})
        return replace(self, host="127.0.0.1", port=port, settings=settings)


def is_free(port: int) -> bool:
    """Whether `port` can be bound. Raises `StartError` if this user may not bind it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError as error:
            raise StartError(
                f"this user may not bind port {port}: start as root, or allow it "
                f"(sysctl net.ipv4.ip_unprivileged_port_start={port})"
            ) from error
        except OSError:
            return False
        return True


def free_port() -> int:
    """A free port of loopback, below those that the kernel hands out: Ray's processes take such ports meanwhile.

    Raises `StartError` if a hundred tries found none.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartError("no port between 20000 and 32767 is free: stop what takes them, or name one with --port")
