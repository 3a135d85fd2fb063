"""A cache of a bucket's artifacts on this node, shared by all its processes.

Locks are the kernel's (`flock`), so they end with their process. A reader holds a shared lock on the copy, which
prevents its eviction; a process that fetches holds an exclusive lock on `COPY.part`, and the others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from serve_app.artifacts.directory import remove_empty, remove_tree
from serve_app.errors import StorageFull

SPARE_BYTES = 64 << 20  # disk space that copies never use
FREE_SHARE = 0.1  # of the disk, for other writers: copies are evicted to keep it free
WAIT_S = 0.05


class NodeCache:
    """Up to `limit_bytes` of copies below `root`, or fewer to keep `FREE_SHARE` of the disk free.

    Evicts the least recently used copies; those in use stay.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._limit = limit_bytes

    def pin(
        self, name: str, version: str, size: int, fetch: Callable[[BinaryIO], None], wait: Callable[[], None]
    ) -> tuple[Path, BinaryIO]:
        """The copy of `version` of `name`, and an open file that pins it until closed.

        fetch: writes the bytes, if no process of the node has fetched them yet.
        wait: called repeatedly while another process fetches; may raise.
        Raises `StorageFull` if the copy does not fit on the disk.
        """
        path = self._root / name / version
        while True:
            pin = _open_pinned(path)
            if pin is not None:
                return path, pin
            self._fetch(path, size, fetch, wait)

    def forget(self, prefix: str) -> None:
        """Deletes all copies of the artifact `prefix` and of those below it."""
        remove_tree(self._root / prefix, self._root)

    def _fetch(
        self, path: Path, size: int, fetch: Callable[[BinaryIO], None], wait: Callable[[], None]
    ) -> None:
        """Fetches the copy, or waits while another process does. The caller must check whether it exists afterwards."""
        part = path.with_name(f"{path.name}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("ab")
        except (FileNotFoundError, FileExistsError):  # the empty directory was just removed
            return
        with file:
            while not _try_lock(file):
                wait()
                time.sleep(WAIT_S)
            if not _is_at(part, file):  # it became the copy, or was abandoned, while we waited
                return
            try:
                if not path.exists():
                    file.truncate(0)  # the rest of a killed process
                    self._make_room(size)
                    fetch(file)
                    file.flush()
                    part.replace(path)
            finally:
                if _is_at(part, file):
                    part.unlink()

    def _make_room(self, size: int) -> None:
        """Evicts copies until `size` more bytes fit. Copies in use may exceed the limit, but must not fill the disk."""
        copies = sorted(_files(self._root), key=lambda copy: copy[1].st_mtime_ns)
        used = sum(stat.st_size for _, stat in copies)
        for path, stat in copies:
            disk = shutil.disk_usage(self._root)
            if used + size <= self._limit and disk.free >= size + max(SPARE_BYTES, FREE_SHARE * disk.total):
                return
            if _evict(path):
                used -= stat.st_size
                remove_empty(path.parent, self._root)
        free = shutil.disk_usage(self._root).free
        if free < size + SPARE_BYTES:
            raise StorageFull(
                f"a copy of {size >> 20} MiB does not fit in {self._root}, {free >> 20} MiB are free: make room, or "
                "put the scratch directory on a larger disk"
            )


def _open_pinned(path: Path) -> BinaryIO | None:
    """The copy, opened, locked against eviction and marked as most recently used; None if it does not exist."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if _is_at(path, file):
        with suppress(FileNotFoundError):
            os.utime(path)
        return file
    file.close()  # evicted before it was locked
    return None


def _evict(path: Path) -> bool:
    """Removes a copy or an abandoned part. Returns False if it is in use."""
    try:
        with path.open("rb") as file:
            if not _try_lock(file):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _files(root: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for directory, _, names in os.walk(root):  # unlike rglob, tolerates directories that vanish meanwhile
        for path in (Path(directory, name) for name in names):
            with suppress(FileNotFoundError):
                found.append((path, path.stat()))
    return found
