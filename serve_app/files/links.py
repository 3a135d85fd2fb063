"""URLs of artifacts for clients."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.artifacts.bucket import MAX_EXPIRY_S
from serve_app.artifacts.store import Artifacts
from serve_app.files.signing import Signer
from serve_app.files.upload_names import UPLOADS


@dataclass(frozen=True, slots=True)
class FileLinks:
    """Builds signed URLs. `artifacts`: the store, if it is a bucket that serves its files itself."""

    signer: Signer
    artifacts: Artifacts | None = None

    def at(self, name: str, base: str) -> str:
        """The URL of `name`; `base` is the file server's URL as the client sees it, without a trailing slash.

        Outputs in a bucket get a URL of the bucket. Uploads do not: their URLs must stay valid longer than a bucket's
        signatures, and the runner must recognize them.
        """
        if self.artifacts is not None and not name.startswith(UPLOADS):
            url = self.artifacts.signed_url(name, MAX_EXPIRY_S)
            if url is not None:
                return url
        return base + self.signer.file_path(name)
