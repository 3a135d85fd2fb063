"""The keys that sign webhooks, in one private JWK set per installation (RFC 7517, RFC 8037).

Receivers may cache the published set for a day. Therefore a new key is published a day before it signs, and a replaced
key stays published for two more days: any set that a receiver has cached contains the signing key.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serve_app.errors import SetupError

CACHED_S = 86400.0  # how long receivers may cache the published set
KEPT_S = 2 * CACHED_S  # how long a key stays published after its replacement


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key. It signs from `signs_from` (Unix time in seconds) until a later key does."""

    private: Ed25519PrivateKey
    signs_from: float

    @classmethod
    def new(cls, signs_from: float) -> Self:
        return cls(Ed25519PrivateKey.generate(), signs_from)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        private = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(_padded(data["d"])))
        return cls(private, float(data["signs_from"]))

    def as_json(self) -> dict[str, Any]:
        return self.public | {
            "d": _base64url(self.private.private_bytes_raw()),
            "signs_from": self.signs_from,
        }

    @property
    def public(self) -> dict[str, str]:
        """The public JWK."""
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        # With padding: common verifiers decode the value as it is, and those that need no padding accept it.
        x = _base64url(raw)
        return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": _thumbprint(x), "x": x}


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys, oldest first. `installation`: a stable id, sent as the user id of jobs without an account."""

    installation: str
    keys: tuple[SigningKey, ...]

    @classmethod
    def new(cls, now: float) -> Self:
        return cls(str(uuid.uuid4()), (SigningKey.new(now),))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Parses `data`. Raises `KeyError`, `TypeError` or `ValueError` if it is not a key ring."""
        keys = tuple(SigningKey.from_json(key) for key in data["keys"])
        if not keys:
            raise ValueError("it has no keys")
        return cls(str(data["installation"]), keys)

    def as_json(self) -> dict[str, Any]:
        return {"installation": self.installation, "keys": [key.as_json() for key in self.keys]}

    def signer(self, now: float) -> SigningKey:
        """The key that signs at the time `now`."""
        return next((key for key in reversed(self.keys) if key.signs_from <= now), self.keys[0])

    def published(self, now: float) -> dict[str, Any]:
        """The public JWK set at the time `now`."""
        return {"keys": [key.public for key in self._current(now)]}

    def rotated(self, now: float, lead_s: float) -> Self:
        """The ring with a new key that signs after `lead_s`, without keys that would start after that."""
        begin = now + lead_s
        kept = tuple(key for key in self._current(now) if key.signs_from < begin)
        return replace(self, keys=(*kept, SigningKey.new(begin)))

    def _current(self, now: float) -> list[SigningKey]:
        followers = [key.signs_from for key in self.keys[1:]] + [float("inf")]
        return [key for key, next_from in zip(self.keys, followers, strict=True) if now < next_from + KEPT_S]


class KeyFile:
    """The file of the key ring. All processes must share the file; any of them may create it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._ring: KeyRing | None = None

    def ring(self) -> KeyRing:
        """The current keys. Reads the file again if it has changed, and creates it if it is missing.

        Raises `SetupError` if the file cannot be read or written.
        """
        try:
            found = self.path.stat()
        except OSError:
            _write(self.path, KeyRing.new(time.time()), new=True)
            found = self.path.stat()
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._ring is None or seen != self._seen:
            self._ring, self._seen = _read(self.path), seen
        return self._ring

    def rotate(self, lead_s: float = CACHED_S) -> SigningKey:
        """Adds a key and returns it. With a lead of 0, receivers that cache reject its signatures for up to a day."""
        self.ring()
        with _locked(self.path):
            ring = _read(self.path).rotated(time.time(), lead_s)
            _write(self.path, ring, new=False)
        return ring.keys[-1]


def signed_headers(
    key: SigningKey, request_id: str, user_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The signature headers of one attempt: receivers reject timestamps more than five minutes off."""
    message = "\n".join((request_id, user_id, str(timestamp), hashlib.sha256(body).hexdigest()))
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": str(timestamp),
        "X-Fal-Webhook-Signature": key.private.sign(message.encode()).hex(),
    }


def _read(path: Path) -> KeyRing:
    try:
        return KeyRing.from_json(json.loads(path.read_bytes()))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SetupError(
            f"{path} is not a readable file of webhook signing keys ({error}): restore it, or delete it to create new "
            "keys, which all receivers accept within a day"
        ) from error


def _write(path: Path, ring: KeyRing, new: bool) -> None:
    """Writes the file atomically, with mode 0600. `new`: an existing file is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(ring.as_json(), file, indent=1)
                file.flush()
                os.fsync(descriptor)
            if new:
                with suppress(FileExistsError):
                    os.link(temporary, path)
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Serializes rotations: of two at once, the second would lose the key of the first."""
    try:
        file = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwritable(path: Path, error: OSError) -> SetupError:
    return SetupError(
        f"cannot write the webhook signing keys to {path} ({error.strerror}): make its directory writable, or set "
        "another file in `webhooks.key_file`"
    )


def _thumbprint(x: str) -> str:
    """The JWK thumbprint (RFC 7638), used as the key id."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": x.rstrip("=")}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode()


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
