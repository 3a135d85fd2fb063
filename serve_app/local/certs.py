"""Certificates for local use: a private authority and a server certificate signed by it.

The official Python client speaks only https, so even a service on a laptop needs a certificate. The extensions are
those that strict verifiers (Python 3.13, Go, browsers) require (RFC 5280).
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from serve_app.errors import SetupError
from serve_app.fal import VENDOR_NAMES

CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=824)  # Apple's verifiers reject more than 825
CLOCK_SKEW = timedelta(hours=1)
_HOST = re.compile(r"[A-Za-z0-9._*-]+")
REMEDY = "create new ones with `birefnet-serve certs`"


@dataclass(frozen=True, slots=True)
class CertFiles:
    """The PEM files in one directory."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate, which clients must trust."""
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca-key.pem"

    @property
    def certificate(self) -> Path:
        """The chain: the server's certificate, then the authority's."""
        return self.directory / "cert.pem"

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def identifier(self) -> x509.SubjectKeyIdentifier:
        return self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def make_certificates(files: CertFiles, names: Iterable[str] = ()) -> list[str]:
    """Creates a server certificate for this machine and `names`, signed by the existing authority or a new one.

    Returns all names in the certificate. Raises `SetupError` if a name is invalid or the existing authority's files
    cannot be used.
    """
    all_names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname().lower(), *names]))
    subjects = [_general_name(name) for name in all_names]
    files.directory.mkdir(parents=True, exist_ok=True)
    authority = _load_authority(files) or _new_authority(files)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.now(UTC) - CLOCK_SKEW
    certificate = (
        _builder("localhost", authority.certificate.subject, key, begin)
        .not_valid_after(min(begin + LIFETIME, authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority.identifier),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    _write_key(files.key, key)
    chain = certificate.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)
    _write(files.certificate, chain, 0o644)
    return all_names


def check(certificate: Path, key: Path) -> None:
    """Raises `SetupError` unless a server can start with these files."""
    for path in (certificate, key):
        if not path.is_file():
            raise SetupError(f"{path} does not exist: {REMEDY}, or set your own files in the profile's `tls`")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise SetupError(f"{certificate} and {key} cannot be used ({error}): {REMEDY}") from error
    if end <= datetime.now(UTC):
        raise SetupError(f"{certificate} expired on {end:%Y-%m-%d}: {REMEDY}")


def missing_vendor_names(certificate: Path) -> list[str]:
    """Returns the vendor's host names that a PEM certificate does not cover."""
    extensions = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    try:
        subjects = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return list(VENDOR_NAMES)
    covered = {name.lower() for name in subjects.get_values_for_type(x509.DNSName)}
    return [name for name in VENDOR_NAMES if not covered & {name, "*." + name.partition(".")[2]}]


def _load_authority(files: CertFiles) -> _Authority | None:
    """Loads the authority of an earlier call; None if there is none or it has expired."""
    if not (files.ca.exists() or files.ca_key.exists()):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(files.ca.read_bytes())
        key = load_pem_private_key(files.ca_key.read_bytes(), password=None)
    except (OSError, TypeError, ValueError) as error:
        raise SetupError(
            f"the authority in {files.directory} cannot be used ({error}): remove ca.pem and ca-key.pem to create a "
            "new one, which clients then have to trust"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise SetupError(
            f"{files.ca_key} is not the key of {files.ca}: remove both to create a new authority"
        )
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        return None
    return _Authority(certificate, key)


def _new_authority(files: CertFiles) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.now(UTC) - CLOCK_SKEW
    name = f"birefnet-serve on {socket.gethostname()}"[:64]  # the maximum length of a common name
    builder = _builder(name, None, key, begin).not_valid_after(begin + CA_LIFETIME)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(files.ca_key, key)
    _write(files.ca, certificate.public_bytes(Encoding.PEM), 0o644)
    return _Authority(certificate, key)


def _builder(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, begin: datetime
) -> x509.CertificateBuilder:
    """What both kinds of certificate share. `issuer` is None for a self-signed one."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    """Converts an IP address or a host name; international names in their ASCII form (IDNA)."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        ascii_name = name.encode("idna").decode()
    except UnicodeError:
        ascii_name = ""
    if not _HOST.fullmatch(ascii_name):
        raise SetupError(f"{name!r} is neither a host name nor an IP address")
    return x509.DNSName(ascii_name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replaces the file atomically. Its mode is set on creation, so a key is never readable by other users."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    part.replace(path)
