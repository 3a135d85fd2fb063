"""What the API works with, handed to every router: nothing in `serve_app.api` lives at module level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.jobs.store import JobRequests
from serve_app.settings import IngressSettings, UploadSettings
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
    """The opened job table, the artifact store, how the runner is notified, where files are, and the limits.

    webhook_keys: those that webhooks are signed with.
    verifier: knows the API keys; None where none are needed.
    public_url: the API as clients see it, when it is not the host that they ask.
    """

    store: JobRequests
    artifacts: Artifacts
    notifier: RunnerNotifier
    urls: FileUrls
    webhook_keys: KeyFile
    verifier: Verifier | None
    public_url: str | None
    limits: IngressSettings
    uploads: UploadSettings
