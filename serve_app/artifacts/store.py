"""The artifact store: sources, pieces and outputs under names, whole or not at all.

A name means the same bytes on a local directory and in a bucket; only whether a path is the artifact itself or a
copy of it differs. All methods block (a rename here, a transfer there): call them in the worker thread that made the
file, or by `asyncio.to_thread`.
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
    """What a bucket needs on each node: a directory for unfinished files and for copies, and the most bytes of copies.
    All processes of the node share it.
    """

    scratch: Path
    cache_bytes: int


class Artifacts:
    """Artifacts at a path or `file://` URL, or at `s3://`, `gs://`, `az://` followed by a bucket and a prefix.

    Credentials, endpoint and region of a bucket come from the environment (AWS_*, GOOGLE_*, AZURE_*). A bucket needs
    a `disk`; a local directory is its own. What a bucket cannot do ends in `StorageUnavailable`, a disk without room
    in `StorageFull`.
    """

    def __init__(self, url_or_path: str | Path, disk: NodeDisk | None = None) -> None:
        self._store = _store(url_or_path, disk)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The installation's own, on this node."""
        return cls(settings.artifacts_url, NodeDisk(settings.scratch_dir, settings.node_cache_bytes))

    @property
    def is_local(self) -> bool:
        """Whether the artifacts are files on this machine, which somebody has to serve; else URLs can be signed."""
        return isinstance(self._store, DirectoryStore)

    @property
    def root(self) -> Path:
        """Where this node writes: the artifacts' own directory, or the scratch."""
        return self._store.root

    def check(self) -> None:
        """Raise `StorageUnavailable` unless the store answers and lets us in."""
        self._store.check()

    def put_file(
        self, name: str, path: Path, *, final: bool = False, content_type: str | None = None
    ) -> None:
        """Take the file at `path` over as `name`: it is gone from `path` afterwards.

        Readers see the old artifact or the whole new one. `final`: the name must be free, or `FileExistsError` (what
        two runners race to write is written once; a bucket promises that up to `ATOMIC_BYTES`, and lets the last of
        larger ones win, whole). `content_type` is what a signed URL answers with; a directory does not keep it.
        """
        self._store.put_file(check_name(name), path, final, content_type)

    def put_bytes(
        self, name: str, data: bytes, *, final: bool = False, content_type: str | None = None
    ) -> None:
        """Write `data` as `name`, with the same promises as `put_file`."""
        self._store.put_bytes(check_name(name), data, final, content_type)

    def link(self, name: str, target: str) -> None:
        """Make `target` the same bytes as `name`, which may be deleted later, without reading them here."""
        self._store.link(check_name(name), check_name(target))

    def local_path(
        self, name: str, *, keep: bool = True, cancelled: Callable[[], bool] | None = None
    ) -> AbstractContextManager[Path]:
        """A file with the artifact's bytes, for reading, valid inside the `with` block; `FileNotFoundError`.

        From a bucket it is a copy: with `keep` in the node's cache, fetched once for all its processes, otherwise
        (what is read once) gone with the block. A transfer polls `cancelled` and ends in `JobCancelled`.
        """
        return self._store.local_path(check_name(name), keep, cancelled or _never)

    def scratch(self, beside: str) -> AbstractContextManager[Path]:
        """A directory for unfinished files of the artifact `beside`, gone afterwards, also when its process dies.

        A local one lies next to the artifact, so that it goes with the job; a late `put_file` out of it then fails
        instead of bringing the prefix back.
        """
        return self._store.scratch(check_name(beside))

    def free_bytes(self) -> int:
        """Room left for what this node writes."""
        return self._store.free_bytes()

    def exists(self, name: str) -> bool:
        return self._store.exists(check_name(name))

    def size(self, name: str) -> int:
        """Bytes of an artifact; `FileNotFoundError` when there is none."""
        return self._store.size(check_name(name))

    def children(self, prefix: str) -> list[str]:
        """The directories right below `prefix`, sorted: last segments only, `children("work")` gives job ids."""
        return sorted(self._store.children(_prefix(prefix)))

    def delete(self, name: str) -> None:
        """Remove an artifact and the directories that it leaves empty; no error when it is gone already."""
        self._store.delete(check_name(name))

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix/`, with this node's copies and unfinished files."""
        self._store.delete_prefix(_prefix(prefix))

    def signed_url(self, name: str, expires_s: float) -> str | None:
        """A URL to GET the artifact with nothing else, for up to seven days; None on a local directory."""
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
            f"artifacts cannot lie at {parts.scheme}://{parts.netloc}: use a directory, file:///PATH, "
            "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
        )
    if disk is None:
        raise ValueError(
            f"artifacts at {url_or_path} need a scratch directory on each node for copies and unfinished files"
        )
    return BucketStore(url_or_path, disk.scratch.absolute(), disk.cache_bytes)
