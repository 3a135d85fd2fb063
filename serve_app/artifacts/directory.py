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
    """Implements `Artifacts`, which checks names, on a directory. `root` is created if it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # `automatic_cleanup` removes a directory with its last file: an idle service leaves none behind.
        self._store = LocalStore(root, mkdir=True, automatic_cleanup=True)

    def check(self) -> None:
        """Does nothing: a directory is always available."""

    def put_file(self, name: str, path: Path, final: bool, content_type: str | None) -> None:
        """Renames the file if it is on the same file system, else copies it.

        With `final` it is hard-linked and unlinked, since only a link fails if the name exists.
        """
        target = self.root / name
        with translated_disk_errors(name):
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
        with translated_disk_errors(name):
            try:
                obstore.put(self._store, name, data, mode="create" if final else "overwrite")
            except AlreadyExistsError as error:
                raise FileExistsError(errno.EEXIST, "the artifact exists", name) from error

    def link(self, name: str, target: str) -> None:
        source = self.root / name
        if not source.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name)
        with translated_disk_errors(target), self._staged() as staged:
            try:
                os.link(source, staged)
            except FileNotFoundError:
                raise
            except OSError:  # hard links are not supported, or the file has too many
                shutil.copyfile(source, staged)
            self._move(staged, self.root / target, final=False)

    @contextmanager
    def local_path(self, name: str, keep: bool, cancelled: Callable[[], bool]) -> Iterator[Path]:
        path = self.root / name
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name)
        yield path

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Below the artifact's prefix, so that it is deleted with the job even if its process was killed."""
        parent = (self.root / name).parent
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
        """Returns None: a directory has no URLs."""

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """A path for a file before it is moved to its name."""
        self.root.mkdir(parents=True, exist_ok=True)
        staged = self.root / f".{uuid.uuid4().hex}.part"
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)  # it still exists if it was moved onto a hard link of itself

    def _move(self, path: Path, target: Path, final: bool) -> None:
        while True:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                if target.parent.exists():
                    raise
                continue  # it existed, and was deleted before mkdir checked what it is
            except FileNotFoundError:
                continue  # its own parent was deleted before mkdir came to it
            try:
                if final:
                    _sync(path)  # a result may only name files that survive a power cut
                    os.link(path, target)
                    _sync(target.parent)
                    path.unlink()
                else:
                    path.replace(target)
                return
            except FileNotFoundError:
                # Another process removed the directory, with its last file, between the two steps.
                if not path.exists():
                    raise


def _sync(path: Path) -> None:
    """Waits until a file, or the entries of a directory, would survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_tree(directory: Path, root: Path) -> None:
    """Removes a directory below `root` recursively, and the parents that become empty."""
    shutil.rmtree(directory, ignore_errors=True)
    remove_empty(directory.parent, root)


def remove_empty(directory: Path, root: Path) -> None:
    """Removes `directory` and its parents below `root` while they are empty."""
    while directory != root:
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # not empty
            break
        directory = directory.parent


@contextmanager
def translated_disk_errors(name: str) -> Iterator[None]:
    """Turns the system's and obstore's errors for a full disk into `StorageFull`."""
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
        raise StorageFull(f"no space left to store {name}: free space in the artifact store") from error
