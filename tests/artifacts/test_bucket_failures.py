"""A bucket that does not exist, and a server that denies access, fails for a while or cannot be reached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serve_app.artifacts.bucket import BucketStore
from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageUnavailable, to_wire
from tests.artifacts.s3 import S3Server, node_disk


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
