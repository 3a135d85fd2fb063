"""Copies of a bucket's artifacts on this node, shared by all its processes.

Locks are the kernel's (`flock`), so they end with their process. A reader holds a shared lock on the copy itself,
which keeps it from being evicted; a fetcher holds an exclusive one on `COPY.part`, and the others wait for it.
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

SPARE_BYTES = 64 << 20  # of the disk, that a copy never takes
KEPT_FREE = 0.1  # of the disk, for those who write beside us: copies give way
WAIT_S = 0.05


class NodeCache:
    """At most `limit_bytes` of copies below `root`, or fewer, so that a share of the disk stays free for others.

    The least recently used go first; those in use stay.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._limit = limit_bytes

    def hold(
        self, name: str, version: str, size: int, fetch: Callable[[BinaryIO], None], wait: Callable[[], None]
    ) -> tuple[Path, BinaryIO]:
        """The copy of `version` of `name`, there until the file that comes with it is closed.

        `fetch` writes the bytes where no process of the node has them yet; `wait` is called again and again while
        another one fetches.
        """
        path = self._root / name / version
        while True:
            pin = _pinned(path)
            if pin is not None:
                return path, pin
            self._fetch(path, size, fetch, wait)

    def forget(self, prefix: str) -> None:
        """Drop all copies of the artifact `prefix` and of those below it."""
        remove_tree(self._root / prefix, self._root)

    def _fetch(
        self, path: Path, size: int, fetch: Callable[[BinaryIO], None], wait: Callable[[], None]
    ) -> None:
        """Bring the copy in, or see somebody else do it; whether it is there is to be looked at again."""
        part = path.with_name(f"{path.name}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("ab")
        except (FileNotFoundError, FileExistsError):  # the directory was just taken away, empty
            return
        with file:
            while not _locked(file):
                wait()
                time.sleep(WAIT_S)
            if not _is_at(part, file):  # it has become the copy, or was given up, while we waited
                return
            try:
                if not path.exists():
                    file.truncate(0)  # what a killed process left
                    self._make_room(size)
                    fetch(file)
                    file.flush()
                    part.replace(path)
            finally:
                if _is_at(part, file):
                    part.unlink()

    def _make_room(self, size: int) -> None:
        """Evict until `size` more bytes fit. Over the limit with all that is in use is fine, a full disk is not."""
        copies = sorted(_files(self._root), key=lambda copy: copy[1].st_mtime_ns)
        used = sum(stat.st_size for _, stat in copies)
        for path, stat in copies:
            disk = shutil.disk_usage(self._root)
            if used + size <= self._limit and disk.free >= size + max(SPARE_BYTES, KEPT_FREE * disk.total):
                return
            if _evicted(path):
                used -= stat.st_size
                remove_empty(path.parent, self._root)
        free = shutil.disk_usage(self._root).free
        if free < size + SPARE_BYTES:
            raise StorageFull(
                f"a copy of {size >> 20} MiB does not fit in {self._root}, {free >> 20} MiB are free: make room, or "
                "put the scratch directory on a larger disk"
            )


def _pinned(path: Path) -> BinaryIO | None:
    """The copy, open and safe from eviction, and the youngest from now on; None when there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if _is_at(path, file):
        with suppress(FileNotFoundError):
            os.utime(path)
        return file
    file.close()  # evicted before we had the lock
    return None


def _evicted(path: Path) -> bool:
    """Remove a copy, or a part that nobody writes, unless it is in use."""
    try:
        with path.open("rb") as file:
            if not _locked(file):
                return False
            path.unlink()
    except FileNotFoundError:
        pass
    return True


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one that lies at `path` now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _files(root: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for directory, _, names in os.walk(root):  # unlike rglob, not bothered by what vanishes meanwhile
        for path in (Path(directory, name) for name in names):
            with suppress(FileNotFoundError):
                found.append((path, path.stat()))
    return found
