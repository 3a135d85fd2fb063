"""Properties of buckets only: signed URLs, copies on the server, and deletion in batches."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from moto.s3.models import s3_backends

from serve_app.artifacts import bucket as bucket_module
from serve_app.artifacts.bucket import ATOMIC_BYTES
from serve_app.artifacts.store import Artifacts
from tests.artifacts.s3 import S3Server, node_disk


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


def test_an_azure_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests only what needs no server."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    signed = urlsplit(
        str(Artifacts("az://container/prefix", node_disk(tmp_path / "scratch")).signed_url("a/b", 60))
    )
    assert (signed.hostname, signed.path) == ("account.blob.core.windows.net", "/container/prefix/a/b")
