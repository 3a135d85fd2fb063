"""The vendor's host names, in whose place this service can answer: their clients have them fixed in their code."""

from __future__ import annotations

from pathlib import Path

CDN = "fal.media"  # and every host below it
VENDOR_NAMES = (
    "fal.run",
    "queue.fal.run",
    "rest.fal.ai",
    "api.fal.ai",
    f"v3.{CDN}",
    # To these the Python client repeats a request, key included, whose connection failed.
    "falrun.com",
    "queue.falrun.com",
)


def is_cdn(host: str) -> bool:
    """Whether a Host header names one of the vendor's file servers."""
    name = host.lower().partition(":")[0]
    return name == CDN or name.endswith(f".{CDN}")


def uncovered(certificate: Path) -> list[str]:
    """The vendor's names that a certificate in PEM is not for."""
    from cryptography import x509

    extensions = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    try:
        subjects = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return list(VENDOR_NAMES)
    held = {name.lower() for name in subjects.get_values_for_type(x509.DNSName)}
    return [name for name in VENDOR_NAMES if not held & {name, "*." + name.partition(".")[2]}]
