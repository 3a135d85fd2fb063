"""Copies of a bucket's artifacts on a node, and transfers in both directions."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serve_app.artifacts.store import Artifacts
from serve_app.errors import JobCancelled
from tests.artifacts.s3 import S3Server, node_disk


def files(store: Artifacts) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_a_copy_is_fetched_once_by_all_processes(store: Artifacts, s3: S3Server, url: str) -> None:
    store.put_bytes("work/1/source", os.urandom(30 << 20))
    code = (
        "import sys; from pathlib import Path; from serve_app.artifacts.store import Artifacts, NodeDisk\n"
        "store = Artifacts(sys.argv[1], NodeDisk(Path(sys.argv[2]), 1 << 30))\n"
        "print(flush=True); sys.stdin.readline()\n"
        "with store.local_path('work/1/source') as path: print(path.stat().st_size, path.stat().st_ino)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, str(store.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()  # ready
    found = set()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        found.add(process.communicate(timeout=60)[0])
        assert process.returncode == 0
    assert len(found) == 1 and found.pop().startswith(f"{30 << 20} ")
    assert s3.count("GET", "work/1/source") == 1


def test_a_copy_is_fetched_once_by_all_threads(store: Artifacts, s3: S3Server) -> None:
    store.put_bytes("work/1/source", b"source")
    found = []

    def read() -> None:
        with store.local_path("work/1/source") as path:
            found.append(path.read_bytes())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"source"] * 8 and s3.count("GET", "work/1/source") == 1
    store.delete("work/1/source")
    assert files(store) == []


def test_a_replaced_artifact_is_fetched_again(store: Artifacts, url: str, tmp_path: Path) -> None:
    other = Artifacts(url, node_disk(tmp_path / "other node"))
    for data in (b"first", b"second"):
        other.put_bytes("work/1/source", data)
        with store.local_path("work/1/source") as path:
            assert path.read_bytes() == data


def test_a_copy_read_once_is_not_kept(store: Artifacts, s3: S3Server) -> None:
    store.put_bytes("work/1/pieces/0", b"piece")
    for _ in range(2):
        with store.local_path("work/1/pieces/0", keep=False) as path:
            assert path.read_bytes() == b"piece"
        assert files(store) == []
    assert s3.count("GET", "work/1/pieces/0") == 2


@pytest.mark.parametrize("keep", [True, False])
def test_a_cancelled_transfer_leaves_nothing(store: Artifacts, keep: bool) -> None:
    store.put_bytes("work/1/source", os.urandom(5 << 20))
    asked = iter([False, True])
    copy = store.local_path("work/1/source", keep=keep, cancelled=lambda: next(asked))
    with pytest.raises(JobCancelled), copy:
        pass
    assert files(store) == [] and next(asked, None) is None


def test_unfinished_files_of_a_dead_process_are_removed(store: Artifacts, url: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; from serve_app.artifacts.store import Artifacts, NodeDisk\n"
        "with Artifacts(sys.argv[1], NodeDisk(Path(sys.argv[2]), 1 << 30)).scratch('work/1/source') as directory:\n"
        "    (directory / 'half').write_bytes(b'half'); print(directory, flush=True); os._exit(9)\n"
    )
    with store.scratch("work/2/source") as mine:
        (mine / "half").write_bytes(b"mine")
        done = subprocess.run(
            [sys.executable, "-c", code, url, str(store.root)], stdout=subprocess.PIPE, text=True
        )
        left = Path(done.stdout.strip())
        assert (left / "half").exists()
        Artifacts(url, node_disk(store.root))
        assert not left.exists() and (mine / "half").read_bytes() == b"mine"


def test_two_hundred_megabytes_take_constant_memory(url: str, tmp_path: Path) -> None:
    large, digest = tmp_path / "large", hashlib.sha256()
    with large.open("wb") as file:
        for _ in range(200):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    code = (
        "import hashlib, re, sys; from pathlib import Path\n"
        "from serve_app.artifacts.store import Artifacts, NodeDisk\n"
        "store = Artifacts(sys.argv[1], NodeDisk(Path(sys.argv[2]), 1 << 30)); store.put_bytes('warm', b'1')\n"
        # Not getrusage: its peak counts the parent's memory at the fork.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\n"
        "store.put_file('work/1/source', Path(sys.argv[3]), final=True)\n"
        "with store.local_path('work/1/source') as path, path.open('rb') as file:\n"
        "    print(hashlib.file_digest(file, 'sha256').hexdigest())\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(tmp_path / "scratch"), str(large)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found, grown_kib = done.stdout.split()
    assert found == digest.hexdigest() and not large.exists()
    assert int(grown_kib) < 64 << 10
