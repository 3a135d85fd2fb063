"""The artifact store: sources, pieces and outputs under names, whole or not at all.

All methods block for a moment (a rename, an unlink): call them in the worker thread that made the file, or by
`asyncio.to_thread`. Today the store is a directory; `local_path` is the seam for remote stores, where it will
hand out a file of the node's cache.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from serve_app.errors import StorageFull
from serve_app.storage.names import check_name


class Artifacts:
    """Artifacts in a directory, given as a path or a `file://` URL; it is created when missing."""

    def __init__(self, url_or_path: str | Path) -> None:
        self.root = _directory(url_or_path)
        # Clean-up takes a directory away with the last file in it: an idle service leaves none behind.
        self._store = LocalStore(self.root, mkdir=True, automatic_cleanup=True)

    def put_file(self, name: str, path: Path, *, final: bool = False) -> None:
        """Take the file at `path` over as `name`: it is gone from `path` afterwards.

        Readers see the old artifact or the whole new one. `final`: the name must be free, or `FileExistsError`
        (what two runners race to write is written once). On the same file system nothing is copied: the file
        is renamed, or when final hard-linked and unlinked, as only a link fails on a taken name.
        """
        target = self.root / check_name(name)
        with _full_disk(name):
            try:
                self._move(path, target, final)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                staged = self.root / f".{uuid.uuid4().hex}.part"
                try:
                    shutil.copyfile(path, staged)
                    self._move(staged, target, final)
                finally:
                    staged.unlink(missing_ok=True)
                path.unlink()

    def put_bytes(self, name: str, data: bytes, *, final: bool = False) -> None:
        """Write `data` as `name`, with the same promises as `put_file`."""
        with _full_disk(name):
            try:
                obstore.put(self._store, check_name(name), data, mode="create" if final else "overwrite")
            except AlreadyExistsError as error:
                raise FileExistsError(errno.EEXIST, "the artifact exists", name) from error

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """A file with the artifact's bytes, for reading, valid inside the `with` block."""
        path = self.root / check_name(name)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name)
        yield path

    @contextmanager
    def scratch(self, beside: str) -> Iterator[Path]:
        """A directory for half-made files next to the artifact `beside`, gone afterwards.

        It lies under the same prefix, so that it goes with a job whose process was killed. A late `put_file` out
        of a directory that was deleted meanwhile fails instead of bringing the prefix back.
        """
        parent = (self.root / check_name(beside)).parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=parent, prefix="scratch-", ignore_cleanup_errors=True
        ) as directory:
            yield Path(directory)

    def free_bytes(self) -> int:
        """Room left where the artifacts lie."""
        self.root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.root).free

    def exists(self, name: str) -> bool:
        try:
            obstore.head(self._store, check_name(name))
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Bytes of an artifact; `FileNotFoundError` when there is none."""
        return obstore.head(self._store, check_name(name))["size"]

    def delete(self, name: str) -> None:
        """Remove an artifact and the directories that it leaves empty; no error when it is gone already."""
        with suppress(FileNotFoundError):
            obstore.delete(self._store, check_name(name))

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below `prefix/`, half-written files of killed processes included."""
        directory = self.root / check_name(prefix.removesuffix("/"))
        shutil.rmtree(directory, ignore_errors=True)
        for parent in directory.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # not empty
                break

    def _move(self, path: Path, target: Path, final: bool) -> None:
        while True:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                if target.parent.exists():
                    raise
                continue  # it was there, and was deleted before mkdir looked what it is
            try:
                if final:
                    os.link(path, target)
                    path.unlink()
                else:
                    path.replace(target)
                return
            except FileNotFoundError:
                # Somebody deleted the last neighbour, and with it the directory, between our two steps.
                if not path.exists():
                    raise


def _directory(url_or_path: str | Path) -> Path:
    if isinstance(url_or_path, str) and "://" in url_or_path:
        parts = urlsplit(url_or_path)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise ValueError(f"artifacts cannot lie at {parts.scheme}://: use a directory or file:///PATH")
        return Path(unquote(parts.path))
    return Path(url_or_path).absolute()


@contextmanager
def _full_disk(name: str) -> Iterator[None]:
    """Say in our own words that there is no room."""
    try:
        yield
    except (OSError, BaseError) as error:
        codes = (errno.ENOSPC, errno.EDQUOT)
        full = (
            error.errno in codes
            if isinstance(error, OSError)
            else any(f"error {c})" in str(error) for c in codes)
        )
        if not full:
            raise
        raise StorageFull(f"no space left to store {name}: free space where the artifacts lie") from error
