"""Artifacts as files of a local directory."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from serve_app.errors import StorageFull


class DirectoryStore:
    """See `Artifacts` for what the methods promise; names are checked there. `root` is created when missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Clean-up takes a directory away with the last file in it: an idle service leaves none behind.
        self._store = LocalStore(root, mkdir=True, automatic_cleanup=True)

    def check(self) -> None:
        """A directory always answers."""

    def put_file(self, name: str, path: Path, final: bool, content_type: str | None) -> None:
        """On the same file system nothing is copied: the file is renamed, or when final hard-linked and unlinked, as
        only a link fails on a taken name.
        """
        target = self.root / name
        with full_disk(name):
            try:
                self._move(path, target, final)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with self._staged() as staged:
                    shutil.copyfile(path, staged)
                    self._move(staged, target, final)
                path.unlink()

    def put_bytes(self, name: str, data: bytes, final: bool, content_type: str | None) -> None:
        with full_disk(name):
            try:
                obstore.put(self._store, name, data, mode="create" if final else "overwrite")
            except AlreadyExistsError as error:
                raise FileExistsError(errno.EEXIST, "the artifact exists", name) from error

    def link(self, name: str, target: str) -> None:
        source = self.root / name
        if not source.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name)
        with full_disk(target), self._staged() as staged:
            try:
                os.link(source, staged)
            except FileNotFoundError:
                raise
            except OSError:  # no hard links here, or too many of this file
                shutil.copyfile(source, staged)
            self._move(staged, self.root / target, final=False)

    @contextmanager
    def local_path(self, name: str, keep: bool, cancelled: Callable[[], bool]) -> Iterator[Path]:
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name)
        yield path

    @contextmanager
    def scratch(self, beside: str) -> Iterator[Path]:
        """Under the same prefix, so that it goes with a job whose process was killed."""
        parent = (self.root / beside).parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=parent, prefix="scratch-", ignore_cleanup_errors=True
        ) as directory:
            yield Path(directory)

    def free_bytes(self) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.root).free

    def exists(self, name: str) -> bool:
        try:
            obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        return obstore.head(self._store, name)["size"]

    def children(self, prefix: str) -> list[str]:
        try:
            return [path.name for path in (self.root / prefix).iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def delete_prefix(self, prefix: str) -> None:
        remove_tree(self.root / prefix, self.root)

    def signed_url(self, name: str, expires_s: float) -> None:
        """A directory cannot be reached by URL."""

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """A path to make a file at before it is moved to its name."""
        self.root.mkdir(parents=True, exist_ok=True)
        staged = self.root / f".{uuid.uuid4().hex}.part"
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)  # still there also when moved onto a hard link of itself

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
                    _sync(path)  # a result may only name what is on the disk
                    os.link(path, target)
                    _sync(target.parent)
                    path.unlink()
                else:
                    path.replace(target)
                return
            except FileNotFoundError:
                # Somebody deleted the last neighbour, and with it the directory, between our two steps.
                if not path.exists():
                    raise


def _sync(path: Path) -> None:
    """Wait until a file or the names in a directory would survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_tree(directory: Path, root: Path) -> None:
    """Remove a directory below `root` with all that it holds, and the parents that it leaves empty."""
    shutil.rmtree(directory, ignore_errors=True)
    remove_empty(directory.parent, root)


def remove_empty(directory: Path, root: Path) -> None:
    """Remove `directory` and its parents up to `root`, which stays, as long as they are empty."""
    while directory != root:
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # not empty
            break
        directory = directory.parent


@contextmanager
def full_disk(name: str) -> Iterator[None]:
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
