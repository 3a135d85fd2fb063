"""The artifact store on a real directory: whole or not at all, and nothing left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from serve_app.errors import StorageFull
from serve_app.storage.artifacts import Artifacts, _full_disk


@pytest.fixture
def store(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "data" / "artifacts")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "made.bin"
    path.write_bytes(b"made")
    return path


def everything(store: Artifacts) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*"))


def test_a_file_is_moved_not_copied(store: Artifacts, made: Path) -> None:
    inode = made.stat().st_ino
    store.put_file("jobs/1/source", made)
    with store.local_path("jobs/1/source") as path:
        assert path.read_bytes() == b"made" and path.stat().st_ino == inode
    assert not made.exists()
    assert store.exists("jobs/1/source") and store.size("jobs/1/source") == 4


@pytest.mark.parametrize("final", [True, False])
def test_a_file_of_another_file_system_is_copied(store: Artifacts, final: bool) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("needs /dev/shm as a second file system")
    made = shared / f"artifact-test-{os.getpid()}"
    made.write_bytes(b"made")
    store.put_file("jobs/1/source", made, final=final)
    with store.local_path("jobs/1/source") as path:
        assert path.read_bytes() == b"made"
    assert not made.exists() and everything(store) == ["jobs", "jobs/1", "jobs/1/source"]


def test_a_put_replaces_and_a_final_one_does_not(store: Artifacts, made: Path, tmp_path: Path) -> None:
    store.put_bytes("pieces/1", b"old")
    store.put_file("pieces/1", made)
    assert store.size("pieces/1") == 4

    late = tmp_path / "late.bin"
    late.write_bytes(b"too late")
    with pytest.raises(FileExistsError):
        store.put_file("pieces/1", late, final=True)
    with pytest.raises(FileExistsError):
        store.put_bytes("pieces/1", b"too late", final=True)
    with store.local_path("pieces/1") as path:
        assert path.read_bytes() == b"made"
    assert late.exists()


def test_final_puts_race_and_one_wins(store: Artifacts, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.bin" for i in range(8)]
    for i, path in enumerate(files):
        path.write_bytes(bytes([i]) * 1000)
    outcomes: list[bool] = []
    start = threading.Barrier(len(files))

    def put(path: Path) -> None:
        start.wait()
        try:
            store.put_file("outputs/1/v.mp4", path, final=True)
            outcomes.append(True)
        except FileExistsError:
            outcomes.append(False)

    threads = [threading.Thread(target=put, args=(path,)) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    with store.local_path("outputs/1/v.mp4") as path:
        assert len(set(path.read_bytes())) == 1


def test_what_is_absent(store: Artifacts, tmp_path: Path) -> None:
    assert not store.exists("jobs/1/source")
    store.delete("jobs/1/source")
    store.delete_prefix("jobs/1")
    with pytest.raises(FileNotFoundError):
        store.size("jobs/1/source")
    with pytest.raises(FileNotFoundError), store.local_path("jobs/1/source"):
        pass
    with pytest.raises(FileNotFoundError):
        store.put_file("jobs/1/source", tmp_path / "nothing")


def test_deleting_leaves_no_empty_directory(store: Artifacts) -> None:
    store.put_bytes("jobs/1/pieces/a", b"1")
    store.put_bytes("jobs/1/pieces/b", b"1")
    store.put_bytes("jobs/2/source", b"1")
    store.put_bytes("outputs/1/v.mp4", b"1")

    store.delete("outputs/1/v.mp4")
    assert "outputs" not in everything(store)
    store.delete("jobs/1/pieces/a")
    assert store.exists("jobs/1/pieces/b")
    # What a killed process was about to write.
    (store.root / "jobs/1/pieces/.half.part").write_bytes(b"half")
    store.delete_prefix("jobs/1/")
    assert everything(store) == ["jobs", "jobs/2", "jobs/2/source"]
    store.delete_prefix("jobs/2")
    assert everything(store) == [] and store.root.is_dir()


def test_puts_survive_a_neighbour_who_deletes_the_directory(store: Artifacts, tmp_path: Path) -> None:
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
            store.delete("jobs/1/mine")
    finally:
        stop.set()
        sweeper.join()


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "a b", "ä", "a\0", "a\n", "x" * 201]
)
def test_names_that_are_refused(store: Artifacts, made: Path, name: str) -> None:
    for call in (store.exists, store.size, store.delete, lambda n: store.put_file(n, made)):
        with pytest.raises(ValueError, match="no artifact name"):
            call(name)
    assert made.exists()


def test_where_the_store_can_lie(tmp_path: Path) -> None:
    assert Artifacts(f"file://{tmp_path}/a%20b").root == tmp_path / "a b"
    assert Artifacts(str(tmp_path / "c")).root.is_dir()
    with pytest.raises(ValueError, match="s3"):
        Artifacts("s3://bucket/prefix")


def test_a_full_disk_says_so() -> None:
    """`/dev/full` is the kernel's own full disk: writing to it fails as on a real one."""
    with (
        pytest.raises(StorageFull, match="jobs/x"),
        _full_disk("jobs/x"),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"1")
