"""`up --names` and `certs --names`: the resulting profile, and what they refuse before starting anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from serve_app.cli.main import app
from serve_app.errors import SetupError
from serve_app.fal import VENDOR_NAMES
from serve_app.local.certs import CertFiles, make_certificates, missing_vendor_names
from serve_app.local.profile import Profile, StartError
from serve_app.settings import Settings

ROOT = Path(__file__).parents[2]


def profile(data_dir: Path, host: str = "127.0.0.1") -> Profile:
    return Profile(host, 8443, "birefnet", Settings(data_dir=data_dir))


def made(data_dir: Path, *names: str) -> CertFiles:
    files = CertFiles(data_dir / "tls")
    make_certificates(files, names)
    return files


def test_one_port_for_everything(tmp_path: Path) -> None:
    made(tmp_path, *VENDOR_NAMES)
    named = profile(tmp_path, "0.0.0.0").with_tls().with_names()
    settings = named.settings
    assert named.url == "https://127.0.0.1:8443"
    assert (settings.files.host, settings.files.port) == ("0.0.0.0", 8443)
    assert settings.files.upstream == f"http://127.0.0.1:{named.port}"  # only the reverse proxy reaches Serve
    assert (named.host, named.port != 8443) == ("127.0.0.1", True)


def test_names_need_https(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="add --tls"):
        profile(tmp_path).with_names()


def test_names_need_a_certificate_that_covers_them(tmp_path: Path) -> None:
    secure = profile(tmp_path).with_tls()
    with pytest.raises(SetupError, match="does not exist"):
        secure.with_names()
    made(tmp_path, "fal.run", "queue.fal.run")
    with pytest.raises(StartError, match=r"does not cover rest\.fal\.ai, .* `birefnet-serve certs --names`"):
        secure.with_names()


def test_wildcards_cover_one_label(tmp_path: Path) -> None:
    assert missing_vendor_names(made(tmp_path / "none").certificate) == list(VENDOR_NAMES)
    wild = made(tmp_path / "wild", "fal.run", "*.fal.run", "*.fal.ai", "*.fal.media", "*.falrun.com")
    assert missing_vendor_names(wild.certificate) == ["rest.alpha.fal.ai", "fal.media", "falrun.com"]


def test_the_guide_names_every_host() -> None:
    guide = (ROOT / "docs" / "2-clients.md").read_text()
    (line,) = (line for line in guide.splitlines() if line.startswith("echo '127.0.0.1 "))
    assert line.split("'")[1].split()[1:] == list(VENDOR_NAMES)


def test_the_certificate_for_names(tmp_path: Path) -> None:
    """The vendor's names are added to the requested ones."""
    done = CliRunner().invoke(app, ["certs", "--names", "--name", "own.example", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    certificate = tmp_path / "tls" / "cert.pem"
    assert missing_vendor_names(certificate) == []
    extensions = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    held = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"own.example", "localhost"} <= set(held.get_values_for_type(x509.DNSName))
    assert "v3.fal.media" in done.stderr


@pytest.mark.parametrize(
    ("options", "remedy"),
    [(["--names"], "add --tls"), (["--tls", "--names", "--files-port", "9000"], "leave out --files-port")],
)
def test_up_refuses_in_one_line(tmp_path: Path, options: list[str], remedy: str) -> None:
    command = [sys.executable, "-m", "serve_app.cli.main", "up", "--data-dir", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cannot start: ") and remedy in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
