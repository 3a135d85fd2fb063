"""Properties of directories only: files are not copied, and nothing is left behind."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve_app.artifacts.directory import translated_disk_errors
from serve_app.artifacts.store import Artifacts, NodeDisk
from serve_app.errors import StorageFull


@pytest.fixture
def store(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "data" / "artifacts")


def everything(store: Artifacts) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*"))


def inode(store: Artifacts, name: str) -> int:
    with store.local_path(name) as path:
        return path.stat().st_ino


def test_a_file_is_moved_and_linked_not_copied(store: Artifacts, tmp_path: Path) -> None:
    new_file = tmp_path / "made.bin"
    new_file.write_bytes(b"made")
    was = new_file.stat().st_ino
    store.put_file("jobs/1/source", new_file, final=True)
    store.link("jobs/1/source", "jobs/2/source")
    assert inode(store, "jobs/1/source") == inode(store, "jobs/2/source") == was
    store.link("jobs/1/source", "jobs/2/source")
    assert everything(store) == ["jobs", "jobs/1", "jobs/1/source", "jobs/2", "jobs/2/source"]


@pytest.mark.parametrize("final", [True, False])
def test_a_file_of_another_file_system_is_copied(store: Artifacts, final: bool) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("needs /dev/shm as a second file system")
    new_file = shared / f"artifact-test-{os.getpid()}"
    new_file.write_bytes(b"made")
    store.put_file("jobs/1/source", new_file, final=final)
    with store.local_path("jobs/1/source") as path:
        assert path.read_bytes() == b"made"
    assert not new_file.exists() and everything(store) == ["jobs", "jobs/1", "jobs/1/source"]


def test_deleting_leaves_no_empty_directory(store: Artifacts) -> None:
    store.put_bytes("jobs/1/pieces/a", b"1")
    store.put_bytes("jobs/1/pieces/b", b"1")
    store.put_bytes("jobs/2/source", b"1")
    store.put_bytes("outputs/1/v.mp4", b"1")

    store.delete("outputs/1/v.mp4")
    assert "outputs" not in everything(store)
    store.delete("jobs/1/pieces/a")
    assert store.exists("jobs/1/pieces/b")
    # Left by a killed process.
    (store.root / "jobs/1/pieces/.half.part").write_bytes(b"half")
    store.delete_prefix("jobs/1/")
    assert everything(store) == ["jobs", "jobs/2", "jobs/2/source"]
    store.delete_prefix("jobs/2")
    assert everything(store) == [] and store.root.is_dir()


def test_puts_survive_concurrent_removal_of_the_directory(store: Artifacts, tmp_path: Path) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            store.delete("jobs/1/other")

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for i in range(200):
            path = tmp_path / str(i)
            path.write_bytes(b"1")
            store.put_bytes("jobs/1/other", b"1")
            store.put_file("jobs/1/mine", path)
            assert store.size("jobs/1/mine") == 1
            store.delete("jobs/1/mine")
    finally:
        stop.set()
        sweeper.join()


def test_puts_survive_concurrent_removal_of_the_parents(store: Artifacts, tmp_path: Path) -> None:
    """As parts of an upload do that replace each other: what is removed last takes the empty parents along."""

    def replace(number: int) -> None:
        for i in range(200):
            path = tmp_path / f"{number}-{i}"
            path.write_bytes(b"1")
            store.put_file(f"parts/1/{number}/data", path)
            store.delete_prefix(f"parts/1/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replace, range(4)))
    assert everything(store) == []


def test_supported_urls(tmp_path: Path) -> None:
    assert Artifacts(f"file://{tmp_path}/a%20b").root == tmp_path / "a b"
    assert Artifacts(str(tmp_path / "c")).root.is_dir()
    for url in ("ftp://host/path", "s3:///prefix", "file://host/path"):
        with pytest.raises(ValueError, match="use a directory, file:///PATH, s3://"):
            Artifacts(url, NodeDisk(tmp_path, 1 << 30))
    with pytest.raises(ValueError, match="scratch directory"):
        Artifacts("s3://bucket/prefix")


def test_a_directory_has_no_urls(store: Artifacts) -> None:
    store.put_bytes("outputs/1/v.mp4", b"1")
    assert store.is_local
    assert store.signed_url("outputs/1/v.mp4", 60) is None


def test_a_full_disk_is_reported() -> None:
    """Writes to `/dev/full` fail as on a full disk."""
    with (
        pytest.raises(StorageFull, match="jobs/x"),
        translated_disk_errors("jobs/x"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"1")
