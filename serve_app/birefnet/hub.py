"""Checkpoints from the hub: found, pinned to a commit, and checked against the digests of a lock file.

A lock file is written by `birefnet-serve pull` alone, from files that it holds in its hands; nothing here invents a
digest. From then on every load of a locked repository uses the locked commit and compares each file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from serve_app.errors import CheckpointMismatch, CheckpointMissing

WEIGHTS = "model.safetensors"
FILES = [WEIGHTS, "config.json"]


@dataclass(frozen=True, slots=True)
class Locked:
    """A repository at a revision, resolved to a commit, with the SHA-256 of each of its files."""

    repository: str
    revision: str
    commit: str
    files: dict[str, str]


class LockFile:
    """The JSON file that pins checkpoints. A file that does not exist pins nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Locked]:
        if not self.path.is_file():
            return []
        return [Locked(**entry) for entry in json.loads(self.path.read_text())["checkpoints"]]

    def get(self, repository: str, revision: str) -> Locked | None:
        wanted = (repository, revision)
        return next((e for e in self.entries() if (e.repository, e.revision) == wanted), None)

    def put(self, entry: Locked) -> None:
        """Add or replace an entry; readers see the old file or the new one."""
        same = (entry.repository, entry.revision)
        kept = [e for e in self.entries() if (e.repository, e.revision) != same]
        ordered = sorted([*kept, entry], key=lambda e: (e.repository, e.revision))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"checkpoints": [asdict(e) for e in ordered]}, indent=2) + "\n")
        part.replace(self.path)


def pull(repository: str, revision: str, lock: LockFile) -> Locked:
    """Download a repository's checkpoint and lock what came. Raises CheckpointMissing."""
    try:
        commit = HfApi().model_info(repository, revision=revision).sha
        if commit is None:
            raise CheckpointMissing(f"the hub names no commit for {repository} at {revision}")
        directory = Path(snapshot_download(repository, revision=commit, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise _missing(repository, revision, error) from error
    found = {name: sha256_of(directory / name) for name in FILES if (directory / name).is_file()}
    if WEIGHTS not in found:
        raise CheckpointMissing(f"{repository} at {commit} holds no {WEIGHTS}: is it a BiRefNet checkpoint?")
    entry = Locked(repository, revision, commit, found)
    lock.put(entry)
    return entry


def locate(repository: str, revision: str, lock: LockFile | None, offline: bool) -> Path:
    """The directory of a repository's checkpoint: downloaded, or from the hub's cache when `offline`.

    Raises CheckpointMissing, or CheckpointMismatch when a locked file is not what it was.
    """
    locked = lock.get(repository, revision) if lock else None
    try:
        directory = Path(
            snapshot_download(
                repository,
                revision=locked.commit if locked else revision,
                allow_patterns=FILES,
                local_files_only=offline,
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise _missing(repository, revision, error) from error
    for name, digest in (locked.files if locked else {}).items():
        if not (directory / name).is_file() or sha256_of(directory / name) != digest:
            raise CheckpointMismatch(
                f"{directory / name} is not the file that was locked ({digest[:12]}…): delete it and run "
                "`birefnet-serve pull` again, if the change is meant"
            )
    return directory


def _missing(repository: str, revision: str, error: Exception) -> CheckpointMissing:
    return CheckpointMissing(
        f"checkpoint {repository} (revision {revision}) cannot be had from the hub: {str(error).splitlines()[0]}. "
        "Check the network and the name, run `birefnet-serve pull` where there is a network, or set `checkpoint` in "
        f"the profile to a directory that holds its {WEIGHTS}, or to `embedded`."
    )


def sha256_of(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
