"""URLs of artifacts for clients of which only the address of the file server is known."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.artifacts.bucket import MAX_EXPIRY_S
from serve_app.artifacts.store import Artifacts
from serve_app.files.signing import Signer
from serve_app.files.upload_names import UPLOADS


@dataclass(frozen=True, slots=True)
class FileLinks:
    """Signs URLs. `artifacts`: the store, when it is a bucket that serves its files itself."""

    signer: Signer
    artifacts: Artifacts | None = None

    def at(self, name: str, base: str) -> str:
        """The URL of `name`; `base` is the file server as the client sees it, without a slash at the end.

        Outputs in a bucket come from there. Uploads do not: their URLs have to outlast what a bucket signs for, and
        to be known again by the runner.
        """
        if self.artifacts is not None and not name.startswith(UPLOADS):
            url = self.artifacts.signed_url(name, MAX_EXPIRY_S)
            if url is not None:
                return url
        return base + self.signer.file_path(name)
