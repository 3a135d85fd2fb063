"""Local certificates: strict verifiers accept them, renewal keeps the authority, unusable files are refused."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.errors import SetupError
from serve_app.files.http_server import HttpServer
from serve_app.local.certs import CertFiles, check, make_certificates
from serve_app.local.profile import Profile, free_port
from serve_app.settings import Settings, TlsSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path) -> CertFiles:
    made = CertFiles(tmp_path / "tls")
    make_certificates(made, ["video.example.org", "192.0.2.7", "bücher.example"])
    return made


@pytest.fixture
async def port(files: CertFiles) -> AsyncIterator[int]:
    """The port of an https server that answers with the request's scheme."""

    async def scheme(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.scheme)

    tls = TlsSettings(certificate=files.certificate, key=files.key)
    server = HttpServer(Starlette(routes=[Route("/", scheme)]), "127.0.0.1", 0, tls, drain_s=1)
    await server.start()
    yield server.port
    await server.stop()


def strict(ca: Path) -> ssl.SSLContext:
    """Verifies as Python 3.13 does by default."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


async def ask(url: str, verify: ssl.SSLContext | bool) -> str:
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        return (await client.get(url)).raise_for_status().text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_strict_verification_accepts_the_certificate(files: CertFiles, port: int, host: str) -> None:
    assert await ask(f"https://{host}:{port}/", strict(files.ca)) == "https"


async def test_other_authorities_do_not_trust_the_certificate(port: int, tmp_path: Path) -> None:
    other = CertFiles(tmp_path / "other")
    make_certificates(other)
    for context in (ssl.create_default_context(), strict(other.ca)):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(f"https://127.0.0.1:{port}/", context)


async def test_a_profile_trusts_its_own_certificate(files: CertFiles, port: int, tmp_path: Path) -> None:
    """The authority is not checked, so certificates from other issuers work too."""

    def profile(certs: CertFiles) -> Profile:
        tls = TlsSettings(certificate=certs.certificate, key=certs.key)
        return Profile("0.0.0.0", port, "birefnet", Settings(tls=tls, data_dir=tmp_path))

    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    files.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    assert await ask(profile(files).url, profile(files).verify) == "https"
    other = CertFiles(tmp_path / "other")
    make_certificates(other)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await ask(profile(other).url, profile(other).verify)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed (make node)")
def test_node_accepts_the_certificate(files: CertFiles) -> None:
    """Server and client are both Node's, so Python's TLS is not involved."""
    script = f"""
    const https = require("node:https"), fs = require("node:fs");
    const pem = {{ key: fs.readFileSync("{files.key}"), cert: fs.readFileSync("{files.certificate}") }};
    const server = https.createServer(pem, (_, reply) => reply.end("hello"));
    server.listen(0, "127.0.0.1", async () => {{
      const reply = await fetch(`https://127.0.0.1:${{server.address().port}}/`);
      console.log(await reply.text());
      process.exit(0);
    }});
    """
    done = subprocess.run(
        ["node", "-e", script],
        env={"NODE_EXTRA_CA_CERTS": str(files.ca), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "hello\n", done.stderr


def test_the_extensions(files: CertFiles) -> None:
    leaf, issuer = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    assert issuer == x509.load_pem_x509_certificate(files.ca.read_bytes())
    leaf.verify_directly_issued_by(issuer)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "video.example.org", "xn--bcher-kva.example"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.7"]
    for certificate, is_ca in ((leaf, False), (issuer, True)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value.ca is is_ca
        assert certificate.extensions.get_extension_for_class(x509.KeyUsage).critical
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=825)
    assert issuer.not_valid_after_utc - issuer.not_valid_before_utc == timedelta(days=3650)


def test_keys_are_private(files: CertFiles) -> None:
    assert [path.stat().st_mode & 0o777 for path in (files.key, files.ca_key)] == [0o600, 0o600]
    assert [path.stat().st_mode & 0o777 for path in (files.certificate, files.ca)] == [0o644, 0o644]


def test_a_second_call_renews_under_the_same_authority(files: CertFiles) -> None:
    ca, key, chain = (path.read_bytes() for path in (files.ca, files.ca_key, files.certificate))
    assert "video.example.org" not in make_certificates(files)
    assert (files.ca.read_bytes(), files.ca_key.read_bytes()) == (ca, key)
    assert files.certificate.read_bytes() != chain
    check(files.certificate, files.key)
    assert sorted(path.name for path in files.directory.iterdir()) == [
        "ca-key.pem",
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]


def test_an_authority_without_its_key_is_not_replaced(files: CertFiles) -> None:
    ca = files.ca.read_bytes()
    files.ca_key.unlink()
    with pytest.raises(SetupError, match=r"remove ca\.pem and ca-key\.pem"):
        make_certificates(files)
    assert files.ca.read_bytes() == ca


def test_an_authority_with_another_key_is_refused(files: CertFiles) -> None:
    shutil.copy(files.key, files.ca_key)
    with pytest.raises(SetupError, match="is not the key of"):
        make_certificates(files)


def expire(path: Path, signer: Path) -> None:
    """Replaces the first certificate of `path` by an expired copy, signed with the key in `signer`."""
    old = x509.load_pem_x509_certificate(path.read_bytes())
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=old.public_key(),
        serial_number=old.serial_number,
        not_valid_before=old.not_valid_before_utc - timedelta(days=2),
        not_valid_after=datetime.now(UTC) - timedelta(days=1),
        extensions=list(old.extensions),
    )
    key = load_pem_private_key(signer.read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def test_an_expired_certificate_is_refused_and_renewed(files: CertFiles) -> None:
    expire(files.certificate, files.ca_key)
    with pytest.raises(SetupError, match=r"expired on .*birefnet-serve certs"):
        check(files.certificate, files.key)
    make_certificates(files)
    check(files.certificate, files.key)


def test_an_expired_authority_gets_a_successor(files: CertFiles) -> None:
    expire(files.ca, files.ca_key)
    make_certificates(files)
    leaf, issuer = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    leaf.verify_directly_issued_by(issuer)
    assert issuer.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3600)


def test_a_key_of_another_certificate_is_refused(files: CertFiles) -> None:
    with pytest.raises(SetupError, match="cannot be used"):
        check(files.certificate, files.ca_key)


@pytest.mark.parametrize("name", ["", "two words", "http://host", "a..b"])
def test_invalid_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError, match="neither a host name nor an IP address"):
        make_certificates(CertFiles(tmp_path), [name])
    assert list(tmp_path.iterdir()) == []


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serve_app.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_command_prints_the_variables_to_set(tmp_path: Path) -> None:
    done = cli("certs", "--data-dir", str(tmp_path), "--name", "video.example.org")
    assert done.returncode == 0, done.stderr
    ca = tmp_path / "tls" / "ca.pem"
    assert done.stdout.splitlines() == [f"export SSL_CERT_FILE={ca}", f"export NODE_EXTRA_CA_CERTS={ca}"]
    assert "video.example.org" in done.stderr
    done = cli("certs", "--data-dir", str(tmp_path), "--out", str(tmp_path / "own"))
    assert f"export BIREFNET_TLS__KEY={tmp_path / 'own' / 'key.pem'}" in done.stdout.splitlines()


def test_up_without_certificates_names_the_remedy(tmp_path: Path) -> None:
    done = cli("up", "--tls", "--data-dir", str(tmp_path), "--port", str(free_port()))
    assert done.returncode == 2
    assert f"{tmp_path / 'tls' / 'cert.pem'} does not exist" in done.stderr
    assert "birefnet-serve certs" in done.stderr
