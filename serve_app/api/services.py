"""The services that every router is built from; `serve_app.api` has no module-level state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serve_app.accounts.quotas import Quotas
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.callers import Callers
from serve_app.jobs.store import JobRequests
from serve_app.settings import IngressSettings, UploadSettings
from serve_app.webhooks.signing_keys import KeyFile

if TYPE_CHECKING:
    from serve_app.accounts.verifier import Verifier


class RunnerNotifier(Protocol):
    """Hints that make a runner poll the job table early. They may be lost, and must neither raise nor block."""

    def wake(self) -> None:
        """Signals a new job."""

    def cancel(self, job_id: str) -> None:
        """Signals that a job was cancelled."""


@dataclass(frozen=True, slots=True)
class Services:
    """The opened services and the limits of the API.

    public_url: base URL of the API for clients, if it is not the host that they address.
    verifier: verifies API keys; None if keys are not required.
    callers: who is answered without a key; None if it makes no difference.
    webhook_keys: the signing keys of webhooks.
    """

    store: JobRequests
    artifacts: Artifacts
    notifier: RunnerNotifier
    urls: FileUrls
    webhook_keys: KeyFile
    verifier: Verifier | None
    public_url: str | None
    limits: IngressSettings
    quotas: Quotas
    uploads: UploadSettings
    callers: Callers | None = None
