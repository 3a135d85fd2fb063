"""Directories for unfinished files, removed even if their process is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ScratchSpace:
    """Directories below `root`, each locked by its process. Those of dead processes are removed at start."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sweep()

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A new directory, removed after the block."""
        with self._exclusive():  # a sweep must not run between creation and locking
            path = Path(tempfile.mkdtemp(dir=self._root))
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)

    def _sweep(self) -> None:
        with self._exclusive():
            for path in self._root.iterdir():
                try:
                    lock = os.open(path, os.O_RDONLY)
                except FileNotFoundError:  # its owner has just finished
                    continue
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                else:
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
