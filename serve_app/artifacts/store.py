"""The artifact store: sources, pieces and outputs by name, written atomically.

A local directory and a bucket behave the same, except that a local path is the artifact itself in one and a copy in the
other. All methods block (for a rename or a transfer): call them in the worker thread that created the file, or with
`asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from serve_app.artifacts.bucket import BucketStore
from serve_app.artifacts.bucket_client import SCHEMES
from serve_app.artifacts.directory import DirectoryStore
from serve_app.artifacts.names import check_name
from serve_app.settings import Settings


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """What a bucket needs on each node: a directory for unfinished files and copies, and a size limit for the copies.

    All processes of the node share it.
    """

    scratch: Path
    cache_bytes: int


class Artifacts:
    """Artifacts at a path or `file://` URL, or at `s3://`, `gs://`, `az://` followed by a bucket and a prefix.

    Credentials, endpoint and region of a bucket come from the environment (AWS_*, GOOGLE_*, AZURE_*). `disk` is
    required for a bucket. Methods raise `StorageUnavailable` if a bucket cannot be used, and `StorageFull` if a disk
    is full.
    """

    def __init__(self, url_or_path: str | Path, disk: NodeDisk | None = None) -> None:
        self._store = _store(url_or_path, disk)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The artifact store of an installation, on this node."""
        return cls(settings.artifacts_url, NodeDisk(settings.scratch_dir, settings.node_cache_bytes))

    @property
    def is_local(self) -> bool:
        """Whether the artifacts are local files, which the file server must serve; if not, URLs can be signed."""
        return isinstance(self._store, DirectoryStore)

    @property
    def root(self) -> Path:
        """The directory that this node writes to: that of the artifacts, or the scratch directory."""
        return self._store.root

    def check(self) -> None:
        """Raises `StorageUnavailable` unless the store responds and grants access."""
        self._store.check()

    def put_file(
        self, name: str, path: Path, *, final: bool = False, content_type: str | None = None
    ) -> None:
        """Moves the file at `path` into the store as `name`.

        Readers see either the old artifact or the complete new one.
        final: raises `FileExistsError` if the name exists, so that of two racing runners only one writes. A bucket
        guarantees that up to `ATOMIC_BYTES`; of larger files the last one wins, complete.
        content_type: the type that a signed URL returns; a directory does not store it.
        """
        self._store.put_file(check_name(name), path, final, content_type)

    def put_bytes(
        self, name: str, data: bytes, *, final: bool = False, content_type: str | None = None
    ) -> None:
        """Writes `data` as `name`, with the same guarantees as `put_file`."""
        self._store.put_bytes(check_name(name), data, final, content_type)

    def link(self, name: str, target: str) -> None:
        """Makes `target` a copy of `name` without reading it here, if possible. `name` may be deleted later."""
        self._store.link(check_name(name), check_name(target))

    def local_path(
        self, name: str, *, keep: bool = True, cancelled: Callable[[], bool] | None = None
    ) -> AbstractContextManager[Path]:
        """A read-only file with the artifact's bytes, valid inside the `with` block.

        For a bucket it is a copy: with `keep` in the node's cache, fetched once for all processes of the node; without
        (for artifacts read once) deleted after the block.
        cancelled: polled during a transfer; if it returns True, `JobCancelled` is raised.
        Raises `FileNotFoundError` if the artifact does not exist.
        """
        return self._store.local_path(check_name(name), keep, cancelled or _never)

    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """A directory for unfinished files of the artifact `name`, deleted afterwards even if the process dies.

        In a local store it is next to the artifact and deleted with the job; a late `put_file` from it then fails
        instead of recreating the prefix.
        """
        return self._store.scratch(check_name(name))

    def free_bytes(self) -> int:
        """Free bytes on the disk that this node writes to."""
        return self._store.free_bytes()

    def exists(self, name: str) -> bool:
        return self._store.exists(check_name(name))

    def size(self, name: str) -> int:
        """The size in bytes. Raises `FileNotFoundError` if the artifact does not exist."""
        return self._store.size(check_name(name))

    def children(self, prefix: str) -> list[str]:
        """The names of the directories directly below `prefix`, sorted: `children("work")` gives job ids."""
        return sorted(self._store.children(_prefix(prefix)))

    def delete(self, name: str) -> None:
        """Deletes an artifact, if it exists, and the directories that become empty."""
        self._store.delete(check_name(name))

    def delete_prefix(self, prefix: str) -> None:
        """Deletes everything below `prefix/`, including this node's copies and unfinished files."""
        self._store.delete_prefix(_prefix(prefix))

    def signed_url(self, name: str, expires_s: float) -> str | None:
        """A URL that allows anyone to GET the artifact, for up to seven days; None for a local directory."""
        return self._store.signed_url(check_name(name), expires_s)


def _never() -> bool:
    return False


def _prefix(prefix: str) -> str:
    return check_name(prefix.removesuffix("/"))


def _store(url_or_path: str | Path, disk: NodeDisk | None) -> DirectoryStore | BucketStore:
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return DirectoryStore(Path(url_or_path).absolute())
    parts = urlsplit(url_or_path)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise ValueError(
            f"artifacts cannot be stored at {parts.scheme}://{parts.netloc}: use a directory, file:///PATH, "
            "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
        )
    if disk is None:
        raise ValueError(
            f"artifacts at {url_or_path} need a scratch directory on each node for copies and unfinished files"
        )
    return BucketStore(url_or_path, disk.scratch.absolute(), disk.cache_bytes)
