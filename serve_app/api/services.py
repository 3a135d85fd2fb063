"""What the API works with, handed to every router: nothing in `serve_app.api` lives at module level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.uploads import UploadLimits
from serve_app.jobs.store import JobStore
from serve_app.webhooks.signing_keys import KeyFile

if TYPE_CHECKING:
    from serve_app.accounts.verifier import Verifier


class RunnerNotifier(Protocol):
    """RecordingNotifier that save a runner's next look at the table. They may be lost, and must not raise or block."""

    def wake(self) -> None:
        """There is a new job."""

    def cancel(self, job_id: str) -> None:
        """This job was cancelled."""


@dataclass(frozen=True, slots=True)
class Services:
    """The opened job table, the artifact store, the runner's ear, where files are, and how many requests may wait.

    public_url: the API as clients see it, when it is not the host that they ask.
    uploads: what clients may store.
    verifier: knows the API keys; None where none are needed.
    webhook_keys: those that webhooks are signed with.
    """

    store: JobStore
    artifacts: Artifacts
    notifier: RunnerNotifier
    urls: FileUrls
    webhook_keys: KeyFile
    verifier: Verifier | None = None
    uploads: UploadLimits = field(default_factory=UploadLimits)
    public_url: str | None = None
    max_waiting: int = 64
    max_body_bytes: int = 512 << 20
