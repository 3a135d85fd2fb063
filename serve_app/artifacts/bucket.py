"""Artifacts as objects of a bucket: S3 and compatible stores, Google Cloud Storage, Azure."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from serve_app.artifacts.bucket_client import bucket_is_missing, connect, translated_errors
from serve_app.artifacts.cache import NodeCache
from serve_app.artifacts.directory import translated_disk_errors
from serve_app.artifacts.scratch import ScratchSpace
from serve_app.errors import JobCancelled

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta

ATOMIC_BYTES = 16 << 20  # written in one request, which fails if the name exists; takes twice that memory
PART_BYTES = 8 << 20  # of a larger file; four are sent concurrently
MAX_PARTS = 10_000  # of one object on S3
COPY_BYTES = 5 << 30  # the largest object that S3 copies on the server
READ_BYTES = 1 << 20
MAX_EXPIRY_S = 7 * 86400.0  # the longest that the stores sign URLs for

Cancelled = Callable[[], bool]


class BucketStore:
    """Implements `Artifacts`, which checks names, on a bucket.

    retry_s: how long a request with a transient error is retried.
    """

    def __init__(self, url: str, scratch: Path, cache_bytes: int, retry_s: float = 120.0) -> None:
        self.root = scratch
        self._url = url
        self._scheme = urlsplit(url).scheme
        self._bucket = connect(url, retry_s)
        self._checked = False
        self._scratch = ScratchSpace(scratch / "partial")
        # A separate directory per URL: another bucket has other artifacts under the same names.
        self._cache = NodeCache(
            scratch / "cache" / hashlib.sha256(url.encode()).hexdigest()[:16], cache_bytes
        )

    def check(self) -> None:
        with self._translated_errors():
            next(iter(obstore.list(self._bucket, chunk_size=1)), None)
        self._checked = True

    def put_file(self, name: str, path: Path, final: bool, content_type: str | None) -> None:
        size = path.stat().st_size
        if final and size > ATOMIC_BYTES:
            if self.exists(name):
                raise FileExistsError(errno.EEXIST, "the artifact exists", name)
            final = False
        self._put(name, path, final, content_type, size)
        path.unlink()

    def put_bytes(self, name: str, data: bytes, final: bool, content_type: str | None) -> None:
        self._put(name, data, final, content_type, len(data))

    def link(self, name: str, target: str) -> None:
        """Copies on the server; objects beyond S3's limit are copied through this node's disk."""
        with self._translated_errors(name):
            if self._scheme != "s3" or self.size(name) <= COPY_BYTES:
                obstore.copy(self._bucket, name, target)
                return
            kind = obstore.get(self._bucket, name, options={"head": True}).attributes.get("Content-Type")
        with self.local_path(name, False, lambda: False) as path:
            self._put(target, path, False, kind, path.stat().st_size)

    @contextmanager
    def local_path(self, name: str, keep: bool, cancelled: Cancelled) -> Iterator[Path]:
        if keep:
            path, pin = self._copy(name, cancelled)
            with pin:
                yield path
        else:
            with self._scratch.directory() as directory:
                path = directory / "copy"
                with path.open("wb") as file:
                    self._read(name, None, file, cancelled)
                yield path

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        with self._scratch.directory() as directory:
            yield directory

    def free_bytes(self) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        return disk_usage(self.root).free

    def exists(self, name: str) -> bool:
        try:
            self._head(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        return self._head(name)["size"]

    def children(self, prefix: str) -> list[str]:
        with self._translated_errors():
            found = obstore.list_with_delimiter(self._bucket, prefix)["common_prefixes"]
        return [path.rsplit("/", 1)[-1] for path in found]

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._translated_errors(name):
            obstore.delete(self._bucket, name)
        self._cache.forget(name)

    def delete_prefix(self, prefix: str) -> None:
        with self._translated_errors():
            for batch in obstore.list(self._bucket, prefix, chunk_size=1000):
                names = [entry["path"] for entry in batch]
                try:
                    obstore.delete(self._bucket, names)
                except FileNotFoundError as error:
                    if bucket_is_missing(error):
                        raise
                    # Another process deletes too, and the batch stopped at an object that no longer exists.
                    for name in names:
                        self.delete(name)
        self._cache.forget(prefix)

    def signed_url(self, name: str, expires_s: float) -> str:
        with self._translated_errors(name):
            return obstore.sign(self._bucket, "GET", name, timedelta(seconds=min(expires_s, MAX_EXPIRY_S)))

    def _put(self, name: str, data: Path | bytes, final: bool, content_type: str | None, size: int) -> None:
        attributes: Attributes | None = {"Content-Type": content_type} if content_type else None
        with self._translated_errors(name):
            try:
                obstore.put(
                    self._bucket,
                    name,
                    data,
                    attributes=attributes,
                    mode="create" if final else "overwrite",
                    chunk_size=max(PART_BYTES, -(-size // MAX_PARTS)),
                    max_concurrency=4,
                )
            except AlreadyExistsError as error:
                raise FileExistsError(errno.EEXIST, "the artifact exists", name) from error

    def _head(self, name: str) -> ObjectMeta:
        try:
            with self._translated_errors(name):
                return obstore.head(self._bucket, name)
        except FileNotFoundError:
            if not self._checked:  # HEAD does not distinguish a missing object from a missing bucket
                self.check()
            raise

    def _copy(self, name: str, cancelled: Cancelled) -> tuple[Path, BinaryIO]:
        """The node's copy of the current artifact, and the open file that pins it in the cache."""
        while True:
            with suppress(PreconditionError):  # replaced between HEAD and GET
                return self._copy_of(name, self._head(name), cancelled)

    def _copy_of(self, name: str, meta: ObjectMeta, cancelled: Cancelled) -> tuple[Path, BinaryIO]:
        tag, size = meta["e_tag"], meta["size"]
        version = hashlib.sha256(f"{tag} {size} {meta['last_modified']}".encode()).hexdigest()[:16]

        def fetch(file: BinaryIO) -> None:
            self._read(name, tag, file, cancelled)

        return self._cache.pin(name, version, size, fetch, lambda: _raise_if(cancelled))

    def _read(self, name: str, tag: str | None, file: BinaryIO, cancelled: Cancelled) -> None:
        """Writes the artifact to `file`. Raises `PreconditionError` if it is not the version of `tag`, if given."""
        with translated_disk_errors(name), self._translated_errors(name):
            found = obstore.get(self._bucket, name, options={"if_match": tag} if tag else {})
            for block in found.stream(READ_BYTES):
                _raise_if(cancelled)
                file.write(block)

    def _translated_errors(self, name: str = "") -> AbstractContextManager[None]:
        return translated_errors(self._url, name)


def _raise_if(cancelled: Cancelled) -> None:
    if cancelled():
        raise JobCancelled("The job was cancelled while its files were being fetched.")
