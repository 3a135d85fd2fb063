"""The node's cache: size limit, least recently used eviction, pinning, concurrency."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from serve_app.artifacts import cache as cache_module
from serve_app.artifacts.cache import NodeCache
from serve_app.errors import StorageFull


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache_module, "FREE_SHARE", 0.0)  # independent of the free space of this disk
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> NodeCache:
    return NodeCache(root, 1000)


def copies(data: bytes) -> Callable[[BinaryIO], None]:
    def fetch(file: BinaryIO) -> None:
        file.write(data)

    return fetch


def writes(size: int) -> Callable[[BinaryIO], None]:
    return copies(bytes(size))


def noop() -> None: ...


def pinned(cache: NodeCache, name: str, size: int) -> tuple[Path, BinaryIO]:
    return cache.pin(name, "v1", size, writes(size), noop)


def use(cache: NodeCache, name: str, size: int) -> Path:
    path, pin = pinned(cache, name, size)
    with pin:
        assert path.stat().st_size == size
    return path


def test_the_least_recently_used_copies_are_evicted_first(cache: NodeCache, root: Path) -> None:
    a, b, c = (use(cache, f"work/{i}/source", 300) for i in "abc")
    for seconds, path in enumerate((b, c, a)):  # the file system's timestamps may be coarse
        os.utime(path, (seconds, seconds))
    use(cache, "work/b/source", 300)  # used again: now the most recent
    d = use(cache, "work/d/source", 500)
    assert b.exists() and d.exists() and not a.exists() and not c.exists()
    assert sorted(path.name for path in (root / "work").iterdir()) == ["b", "d"]


def test_a_copy_in_use_stays(cache: NodeCache) -> None:
    path, pin = pinned(cache, "work/a/source", 800)
    with pin:
        use(cache, "work/b/source", 800)
        assert path.exists()
    use(cache, "work/c/source", 800)
    assert not path.exists()


def test_parts_of_a_killed_process_are_reused_or_evicted(cache: NodeCache, root: Path) -> None:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "v1.part").write_bytes(bytes(900))
    use(cache, "a", 300)
    assert [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()] == ["a/v1"]


def test_a_failed_fetch_leaves_nothing_and_can_be_retried(cache: NodeCache, root: Path) -> None:
    def broken(file: BinaryIO) -> None:
        file.write(b"half")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.pin("a", "v1", 10, broken, noop)
    assert not [path for path in root.rglob("*") if path.is_file()]
    use(cache, "a", 10)


def test_forgetting_a_prefix_removes_its_directories(cache: NodeCache, root: Path) -> None:
    use(cache, "work/a/source", 10)
    kept = use(cache, "work/b/source", 10)
    cache.forget("work/a")
    cache.forget("work/c")
    assert sorted(path.name for path in (root / "work").iterdir()) == ["b"] and kept.exists()
    cache.forget("work/b")
    assert list(root.iterdir()) == []


def test_concurrent_readers_fetchers_and_evictions(root: Path) -> None:
    """With room for two of six copies, and deletions: every copy that a reader holds is complete and correct."""
    wrong: list[bytes] = []

    def read(seed: int) -> None:
        cache, rng = NodeCache(root, 250), random.Random(seed)
        for _ in range(200):
            name = rng.choice("abcdef")
            if rng.random() < 0.1:
                cache.forget(name)
                continue
            expected = name.encode() * 100
            try:
                _, pin = cache.pin(name, "v1", 100, copies(expected), noop)
            except FileNotFoundError:  # deleted while it was fetched
                continue
            with pin:
                found = pin.read()
            if found != expected:
                wrong.append(found)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(read, seed) for seed in range(6)]:
            done.result()
    assert wrong == []
    use(NodeCache(root, 250), "g", 100)
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) <= 200


def test_a_disk_that_is_too_small(cache: NodeCache) -> None:
    with pytest.raises(StorageFull, match="put the scratch directory on a larger disk"):
        cache.pin("a", "v1", 1 << 60, writes(0), noop)
