"""What the HTTP face works with, handed to every router: nothing in `serve_app.api` lives at module level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serve_app.api.urls import FileUrls
from serve_app.jobs.store import JobStore
from serve_app.storage.artifacts import Artifacts


class RunnerHints(Protocol):
    """Hints that save a runner's next look at the table. They may be lost, and must not raise or block."""

    def wake(self) -> None:
        """There is a new job."""

    def cancel(self, job_id: str) -> None:
        """The flag of this job was set."""


@dataclass(frozen=True, slots=True)
class Services:
    """The opened job table, the artifact store, the runner's ear, where files are, and how many requests may wait."""

    store: JobStore
    artifacts: Artifacts
    hints: RunnerHints
    urls: FileUrls
    max_waiting: int = 64
    max_body_bytes: int = 512 << 20
