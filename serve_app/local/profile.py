"""A profile under `config/` as far as a service on this machine needs it: its settings, addresses and certificates."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_app.errors import SetupError
from serve_app.local.certs import check, uncovered
from serve_app.settings import Settings, TlsSettings


class StartError(SetupError):
    """This machine or the profile keeps the service from starting; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A Serve config file as far as a single machine needs it. `host` and `port` are those of Serve's own proxy."""

    host: str
    port: int
    name: str
    settings: Settings

    @classmethod
    def load(cls, path: Path, port: int | None = None, **overrides: Any) -> Profile:
        """Read a file under `config/`; `overrides` are fields of `Settings` (nested ones as dicts)."""
        if not path.is_file():
            raise StartError(f"{path} does not exist: name a profile such as config/local.yaml")
        written = yaml.safe_load(path.read_text()) or {}
        application = next(iter(written.get("applications") or [{}]))
        if application.get("import_path") != "serve_app.app:build":
            raise StartError(
                f"{path} is not a profile of this service: its import_path must be serve_app.app:build"
            )
        try:
            settings = Settings(**(application.get("args") or {}))
        except ValidationError as error:
            raise StartError(f"{path} is not a valid profile: {error}") from error
        for key, value in overrides.items():  # the command line goes before file and environment
            if isinstance(value, dict):
                value = getattr(settings, key).model_copy(update=value)
            settings = settings.model_copy(update={key: value})
        http = written.get("http_options") or {}
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
        """For httpx clients on this machine: the service's own certificate is the one to trust, whoever signed it.

        Its names need not be those of `url`: this very file is what the service was given.
        """
        if self.settings.tls is None:
            return True
        context = ssl.create_default_context(cafile=self.settings.tls.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        return context

    def with_tls(self) -> Profile:
        """The profile served over https: with the files that it names, or else with those in `tls_dir`."""
        if self.settings.tls is not None:
            return self
        tls = TlsSettings(certificate=self.tls_dir / "cert.pem", key=self.tls_dir / "key.pem")
        return replace(self, settings=self.settings.model_copy(update={"tls": tls}))

    def with_names(self) -> Profile:
        """The profile on one port, good for the vendor's host names too: the file server becomes the reverse proxy, and
        Serve's proxy takes a port behind it that nobody else needs to know.
        """
        tls = self.settings.tls
        if tls is None:
            raise StartError("clients ask for the vendor's names by https alone: add --tls to --names")
        check(tls.certificate, tls.key)
        if missing := uncovered(tls.certificate):
            raise StartError(
                f"{tls.certificate} is not for {', '.join(missing)}: make one with `birefnet-serve certs --names`"
            )
        port = free_port()
        files = self.settings.files.model_copy(
            update={"host": self.host, "port": self.port, "upstream": f"http://127.0.0.1:{port}"}
        )
        settings = self.settings.model_copy(update={"files": files})
        return replace(self, host="127.0.0.1", port=port, settings=settings)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except PermissionError as error:
            raise StartError(
                f"port {port} is not for this user: start as root, or allow it "
                f"(sysctl net.ipv4.ip_unprivileged_port_start={port})"
            ) from error
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
