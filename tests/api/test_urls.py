"""File URLs: built for a client, and recognised in inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts, NodeDisk
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from tests.api.harness import SIGNER


def request_to(host: str, scheme: str = "http") -> Request:
    headers = [(b"host", host.encode())]
    server = ("10.0.0.1", 8000)
    return Request({"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": server})


def test_file_urls_follow_the_host() -> None:
    name = "outputs/ab12/1/output.mp4"
    path = SIGNER.file_path(name)
    urls = FileUrls(8001, FileLinks(SIGNER))
    assert urls.of(name, request_to("fal.example:80")) == f"http://fal.example:8001{path}"
    # A proxy ended TLS before the API: the file port speaks what it speaks.
    assert urls.of(name, request_to("fal.example:443", "https")) == f"http://fal.example:8001{path}"
    own_tls = FileUrls(8001, FileLinks(SIGNER), tls=True)
    assert own_tls.of(name, request_to("fal.example:443", "https")) == f"https://fal.example:8001{path}"
    assert urls.of(name, request_to("[::1]:8000")) == f"http://[::1]:8001{path}"
    assert urls.of(name, request_to("<script>")) == f"http://10.0.0.1:8001{path}"
    public = FileUrls(8001, FileLinks(SIGNER), "https://files.example/media/")
    assert public.of(name, request_to("fal.example")) == f"https://files.example/media{path}"
    assert public.links.at(name, "https://other.example") == f"https://other.example{path}"


def test_own_urls_are_recognised() -> None:
    for name in ("outputs/ab12/1/output.mp4", "uploads/0000000000-ab/clip.mp4"):
        path = SIGNER.file_path(name)
        for base in ("http://127.0.0.1:8001", "https://v3.fal.media", "https://files.example:9/media"):
            assert SIGNER.name_in(base + path) == SIGNER.name_in(f"{base}{path}?x=1#t=3") == name
        assert (
            SIGNER.name_in("http://h" + path.replace("outputs", "%6futputs").replace("uploads", "%75ploads"))
            == name
        )
        assert Signer(b"another secret").file_path(name) != path
    signature = SIGNER.sign_path("outputs/ab12/1/output.mp4")
    for url in (
        "",
        SIGNER.file_path("outputs/ab12/1/output.mp4"),
        "http://host/v.mp4",
        "http://[broken",
        "data:video/mp4;base64,AAAA",
        f"http://h/files/{signature}",
        f"http://h/files/{signature}/",
        f"http://h/files/{signature}/outputs/ab12/1/mask.mp4",
        f"http://h/?/files/{signature}/outputs/ab12/1/output.mp4",
        "http://h" + Signer(b"another secret").file_path("outputs/ab12/1/output.mp4"),
    ):
        assert SIGNER.name_in(url) is None


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    for key, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{key}", value)
    return Artifacts("s3://bucket/prefix", NodeDisk(tmp_path, 1 << 30))


def test_outputs_come_from_the_bucket_and_uploads_do_not(bucket: Artifacts) -> None:
    urls = FileLinks(SIGNER, bucket)
    output = urls.at("outputs/ab12/1/output.mp4", "http://host:8001")
    assert "bucket" in output and "/prefix/outputs/ab12/1/output.mp4?" in output
    assert "X-Amz-Signature=" in output and "X-Amz-Expires=604800" in output
    upload = urls.at("uploads/0000000000-ab/clip.mp4", "http://host:8001")
    assert upload.startswith("http://host:8001/files/")
    assert SIGNER.name_in(upload) == "uploads/0000000000-ab/clip.mp4"


def test_outputs_on_disk_come_from_the_file_server(tmp_path: Path) -> None:
    urls = FileLinks(SIGNER, Artifacts(tmp_path))
    name = "outputs/ab12/1/output.mp4"
    assert urls.at(name, "http://host:8001") == f"http://host:8001{SIGNER.file_path(name)}"
