"""Properties of buckets only: signed URLs, copies on the node, and server errors."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from moto.s3.models import s3_backends

from serve_app.artifacts import bucket as bucket_module
from serve_app.artifacts.bucket import ATOMIC_BYTES, BucketStore
from serve_app.artifacts.store import Artifacts
from serve_app.errors import JobCancelled, StorageUnavailable, to_wire
from tests.artifacts.s3 import S3Server, moto_fixture, node_disk, s3_fixture  # noqa: F401


@pytest.fixture
def url(s3: S3Server) -> str:
    return f"s3://{s3.new_bucket()}/root/prefix"


@pytest.fixture
def store(url: str, tmp_path: Path) -> Artifacts:
    return Artifacts(url, node_disk(tmp_path / "scratch"))


def files(store: Artifacts) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_signed_urls_need_no_credentials(store: Artifacts, url: str, tmp_path: Path) -> None:
    new_file = tmp_path / "v.mp4"
    new_file.write_bytes(b"0123456789")
    store.put_file("outputs/1/2/output.mp4", new_file, final=True, content_type="video/mp4")
    store.link("outputs/1/2/output.mp4", "outputs/3/copy.mp4")
    for name in ("outputs/1/2/output.mp4", "outputs/3/copy.mp4"):
        signed = store.signed_url(name, 3600)
        assert signed is not None and not store.is_local
        whole = httpx.get(signed, trust_env=False)
        part = httpx.get(signed, headers={"Range": "bytes=2-4"}, trust_env=False)
        assert (whole.status_code, whole.content) == (200, b"0123456789")
        assert (part.status_code, part.content) == (206, b"234")
        assert whole.headers["content-type"] == part.headers["content-type"] == "video/mp4"
        assert urlsplit(signed).path == f"/{urlsplit(url).netloc}/root/prefix/{name}"
    year = store.signed_url("outputs/1/2/output.mp4", 365 * 86400)
    assert parse_qs(urlsplit(str(year)).query)["X-Amz-Expires"] == ["604800"]


@pytest.mark.parametrize("limit", [bucket_module.COPY_BYTES, 0])
def test_a_link_is_copied_on_the_server_if_possible(
    store: Artifacts, s3: S3Server, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(bucket_module, "COPY_BYTES", limit)
    data = os.urandom(20 << 20)
    store.put_bytes("uploads/1", data, content_type="video/webm")
    store.link("uploads/1", "work/1/source")
    assert s3.count("GET", "uploads/1") == (0 if limit else 1)
    got = httpx.get(str(store.signed_url("work/1/source", 60)), trust_env=False)
    assert got.content == data and got.headers["content-type"] == "video/webm"


def test_a_large_final_file_does_not_replace_an_existing_one(store: Artifacts, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(ATOMIC_BYTES + 1)
    store.put_bytes("outputs/1/v.mp4", b"first")
    with pytest.raises(FileExistsError):
        store.put_file("outputs/1/v.mp4", large, final=True)
    store.put_file("outputs/2/v.mp4", large, final=True)
    assert store.size("outputs/1/v.mp4") == 5 and store.size("outputs/2/v.mp4") == ATOMIC_BYTES + 1


def test_a_prefix_is_deleted_in_batches(store: Artifacts, url: str, s3: S3Server) -> None:
    backend, name = s3_backends["123456789012"]["aws"], urlsplit(url).netloc
    for i in range(1001):
        backend.put_object(name, f"root/prefix/work/1/pieces/{i:06d}", b"1")
    store.put_bytes("work/2/source", b"1")
    store.delete_prefix("work/1")
    assert store.children("work") == ["2"]
    assert s3.count("POST", "?delete") == 2


# --- copies


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


# --- a server that cannot be used


def every_call(store: Artifacts, tmp_path: Path) -> dict[str, Callable[[], object]]:
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(bytes(20 << 20))

    def read() -> None:
        with store.local_path("a"):
            pass

    return {
        "check": lambda: store.check(),
        "exists": lambda: store.exists("a"),
        "size": lambda: store.size("a"),
        "local_path": read,
        "put_file": lambda: store.put_file("a", tmp_path / "small"),
        "put large": lambda: store.put_file("a", tmp_path / "large"),
        "put_bytes": lambda: store.put_bytes("a", b"1"),
        "link": lambda: store.link("a", "b"),
        "children": lambda: store.children("a"),
        "delete": lambda: store.delete("a"),
        "delete_prefix": lambda: store.delete_prefix("a"),
    }


CALLS = [
    "check",
    "exists",
    "size",
    "local_path",
    "put_file",
    "put large",
    "put_bytes",
    "link",
    "children",
    "delete",
    "delete_prefix",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_that_does_not_exist(s3: S3Server, tmp_path: Path, call: str) -> None:
    store = Artifacts("s3://no-such-bucket/prefix", node_disk(tmp_path / "scratch"))
    with pytest.raises(
        StorageUnavailable, match=r"s3://no-such-bucket/prefix does not exist: create"
    ) as caught:
        every_call(store, tmp_path)[call]()
    assert to_wire(caught.value).status == 500
    assert (tmp_path / "small").exists() and (tmp_path / "large").exists()


@contextmanager
def replying(statuses: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that replies with these statuses in turn, and repeats the last one."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "7" if self.command == "HEAD" else "0")
            self.send_header("Last-Modified", "Mon, 05 Jan 2026 10:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()

        do_HEAD = do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_denies_access(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with replying([403], monkeypatch):
        store = Artifacts("s3://bucket/prefix", node_disk(tmp_path / "scratch"))
        with pytest.raises(StorageUnavailable, match=r"refuses access: check the credentials \(AWS_\*\)"):
            every_call(store, tmp_path)[call]()


def test_transient_errors_are_retried(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = [503, 500, 200]
    with replying(statuses, monkeypatch):
        assert Artifacts("s3://bucket/prefix", node_disk(tmp_path / "scratch")).size("a") == 7
    assert statuses == [200]


def test_an_unreachable_server(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store = BucketStore("s3://bucket/prefix", tmp_path / "scratch", 1 << 30, retry_s=0.2)
    with pytest.raises(StorageUnavailable, match="is reachable from this machine"):
        store.exists("a")


def test_an_incomplete_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ValueError, match=r"Account must be specified.*AZURE_\*"):
        Artifacts("az://container/prefix", node_disk(tmp_path / "scratch"))


def test_an_azure_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests only what needs no server."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    signed = urlsplit(
        str(Artifacts("az://container/prefix", node_disk(tmp_path / "scratch")).signed_url("a/b", 60))
    )
    assert (signed.hostname, signed.path) == ("account.blob.core.windows.net", "/container/prefix/a/b")
