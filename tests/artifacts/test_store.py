"""The guarantees of an artifact store, for a directory and a bucket."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from serve_app.artifacts.store import Artifacts
from tests.artifacts.s3 import node_disk


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "disk":
        return Artifacts(tmp_path / "data" / "artifacts")
    server = request.getfixturevalue("s3")
    return Artifacts(f"s3://{server.new_bucket()}/root/prefix", node_disk(tmp_path / "scratch"))


@pytest.fixture
def new_file(tmp_path: Path) -> Path:
    path = tmp_path / "made.bin"
    path.write_bytes(b"made")
    return path


def content(store: Artifacts, name: str, keep: bool = True) -> bytes:
    with store.local_path(name, keep=keep) as path:
        return path.read_bytes()


@pytest.mark.parametrize("final", [True, False])
def test_a_file_is_moved_into_the_store(store: Artifacts, new_file: Path, final: bool) -> None:
    store.put_file("jobs/1/source", new_file, final=final)
    assert content(store, "jobs/1/source") == content(store, "jobs/1/source", keep=False) == b"made"
    assert not new_file.exists()
    assert store.exists("jobs/1/source") and store.size("jobs/1/source") == 4


def test_a_put_replaces_but_a_final_put_does_not(store: Artifacts, new_file: Path, tmp_path: Path) -> None:
    store.put_bytes("pieces/1", b"old!")
    assert content(store, "pieces/1") == b"old!"
    store.put_file("pieces/1", new_file)
    assert content(store, "pieces/1") == b"made"

    late = tmp_path / "late.bin"
    late.write_bytes(b"too late")
    with pytest.raises(FileExistsError):
        store.put_file("pieces/1", late, final=True)
    with pytest.raises(FileExistsError):
        store.put_bytes("pieces/1", b"too late", final=True)
    assert content(store, "pieces/1") == b"made"
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
    assert len(set(content(store, "outputs/1/v.mp4"))) == 1


def test_missing_artifacts(store: Artifacts, tmp_path: Path) -> None:
    assert not store.exists("jobs/1/source")
    assert store.children("jobs") == []
    store.delete("jobs/1/source")
    store.delete_prefix("jobs/1")
    with pytest.raises(FileNotFoundError):
        store.size("jobs/1/source")
    for keep in (True, False):
        with pytest.raises(FileNotFoundError), store.local_path("jobs/1/source", keep=keep):
            pass
    with pytest.raises(FileNotFoundError):
        store.put_file("jobs/1/source", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        store.link("jobs/1/source", "jobs/2/source")
    store.check()


def test_an_empty_artifact(store: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store.put_file("jobs/1/source", tmp_path / "empty")
    assert store.size("jobs/1/source") == 0 and content(store, "jobs/1/source") == b""


def test_children_are_the_directories_below(store: Artifacts) -> None:
    for name in ("work/b/source", "work/b/pieces/0", "work/a/pieces/0", "work/file", "worker/c/source"):
        store.put_bytes(name, b"1")
    assert store.children("work") == store.children("work/") == ["a", "b"]
    assert store.children("work/b") == ["pieces"]
    assert store.children("work/a/pieces") == store.children("work/file") == []


def test_deleting_a_prefix_keeps_its_neighbours(store: Artifacts) -> None:
    for name in ("work/1/source", "work/1/pieces/0", "work/10/source", "outputs/1/v.mp4"):
        store.put_bytes(name, b"1")
    assert content(store, "work/1/source") == b"1"
    store.delete_prefix("work/1/")
    assert not store.exists("work/1/source") and not store.exists("work/1/pieces/0")
    assert store.exists("work/10/source") and store.exists("outputs/1/v.mp4")
    with pytest.raises(FileNotFoundError):
        content(store, "work/1/source")


def test_a_link_outlives_its_source(store: Artifacts) -> None:
    store.put_bytes("uploads/1", b"bytes")
    store.put_bytes("work/1/source", b"old")
    store.link("uploads/1", "work/1/source")
    store.link("uploads/1", "work/1/source")
    store.delete("uploads/1")
    assert content(store, "work/1/source") == b"bytes"
    assert store.children("work") == ["1"] and not store.exists("uploads/1")


def test_scratch_directories_are_removed(store: Artifacts) -> None:
    with store.scratch("work/1/source") as directory:
        (directory / "half").write_bytes(b"half")
        store.put_file("work/1/source", directory / "half")
        assert directory.is_relative_to(store.root)
    assert not directory.exists() and content(store, "work/1/source") == b"half"
    assert store.free_bytes() > 0


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "a b", "ä", "a\0", "a\n", "x" * 201]
)
def test_invalid_names(store: Artifacts, new_file: Path, name: str) -> None:
    calls = (
        store.exists,
        store.size,
        store.delete,
        store.local_path,
        store.scratch,
        lambda n: store.put_file(n, new_file),
        lambda n: store.put_bytes(n, b"1"),
        lambda n: store.link("a", n),
        lambda n: store.signed_url(n, 1),
    )
    for call in calls:
        with pytest.raises(ValueError, match="not an artifact name"):
            call(name)
    assert new_file.exists()


@pytest.mark.parametrize("prefix", ["", "/", "..", "work/.."])
def test_invalid_prefixes(store: Artifacts, prefix: str) -> None:
    for call in (store.children, store.delete_prefix):
        with pytest.raises(ValueError, match="not an artifact name"):
            call(prefix)
