"""Signed file URLs, which need no account, and signed tokens with claims.

HMAC-SHA256 (RFC 2104) under one secret per installation. Each purpose has a separate key, so that a signature for one
purpose is invalid for any other. A file URL is `{base}/files/{signature}/{name}`: the signature is in the path because
clients append to such URLs (`…/multipart/{upload}/1`) and drop their query.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from serve_app.errors import SetupError
from serve_app.settings import Settings

SECRET_FILE = "secret"
SECRET_BYTES = 32
MIN_SECRET_LENGTH = 16  # characters, of a secret in the settings
MAX_URL_LENGTH = 4096
SIGNATURE_BYTES = 24  # 192 bits; 32 characters without padding

_FILE = re.compile(r"/files/(?P<signature>[^/]+)/(?P<name>.+)")


class Purpose(StrEnum):
    """What a token allows."""

    UPLOADS = "uploads"  # store files at the file server
    PUT = "put"  # write one file
    PARTS = "parts"  # write one file in parts
    APP = "app"  # call the application in place of an API key


class TokenRejected(Exception):
    """The token is invalid or expired; the message says which."""


class Signer:
    """Signs and verifies. All processes of an installation use the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._file_key = _key(secret, "file")
        self._token_keys = {purpose: _key(secret, f"token:{purpose}") for purpose in Purpose}

    @classmethod
    def load(cls, secret: str | None, directory: Path) -> Self:
        """Uses the given secret, or the one stored in `directory`, which is created if it is missing.

        Raises `SetupError` if the secret is too short, or if the stored one cannot be read or written.
        """
        if secret is None:
            return cls(_stored_secret(directory))
        if len(secret) < MIN_SECRET_LENGTH:
            raise SetupError(
                f"The secret has {len(secret)} characters and needs {MIN_SECRET_LENGTH}: "
                "set a random one, such as `openssl rand -hex 32` prints."
            )
        return cls(secret.encode())

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The signer of an installation. Raises `SetupError` if its secret cannot be used."""
        return cls.load(settings.secret_text, settings.data_dir)

    def sign_path(self, name: str) -> str:
        """The signature of the artifact `name`. It does not expire: the URL is valid until the file is deleted."""
        return _sign(self._file_key, name)

    def verifies(self, name: str, signature: str) -> bool:
        """Whether `signature` is valid for the artifact `name`."""
        return hmac.compare_digest(self.sign_path(name).encode(), _utf8(signature))

    def file_path(self, name: str) -> str:
        """The path of the artifact's URL, relative to the file server's base."""
        return f"/files/{self.sign_path(name)}/{quote(name)}"

    def name_in(self, url: str) -> str | None:
        """The artifact of a file URL, whatever its host; None if the URL is not one that this installation signed."""
        if len(url) > MAX_URL_LENGTH or not url.startswith(("http://", "https://")):
            return None  # mainly for data URIs, which may have half a gigabyte
        try:
            match = _FILE.search(urlsplit(url).path)
        except ValueError:
            return None
        if not match:
            return None
        name = unquote(match["name"])
        return name if self.verifies(name, match["signature"]) else None

    def token(self, purpose: Purpose, claims: Mapping[str, Any], lifetime_s: float) -> str:
        """A signed token, valid for `lifetime_s` seconds from now, safe in URLs and headers."""
        body = {**claims, "exp": int(time.time() + lifetime_s)}
        text = urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode().rstrip("=")
        return f"{text}.{_sign(self._token_keys[purpose], text)}"

    def claims(self, purpose: Purpose, token: str) -> dict[str, Any]:
        """The claims of `token`, with its expiry as `exp` (Unix time in seconds). Raises `TokenRejected` if invalid."""
        text, _, signature = token.partition(".")
        expected = _sign(self._token_keys[purpose], text)
        if not hmac.compare_digest(expected.encode(), _utf8(signature)):
            raise TokenRejected("The token is not valid. Request a new one.")
        claims: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claims["exp"] <= time.time():
            raise TokenRejected("The token has expired. Request a new one.")
        return claims


def _key(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, f"birefnet-serve:{purpose}".encode(), hashlib.sha256)


def _sign(key: bytes, text: str) -> str:
    digest = hmac.digest(key, _utf8(text), hashlib.sha256)
    return urlsafe_b64encode(digest[:SIGNATURE_BYTES]).decode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # decoded URLs may contain surrogates


def _stored_secret(directory: Path) -> bytes:
    """The secret in its file. If several processes find none, one creates it and all read that one."""
    path = directory / SECRET_FILE
    try:
        if not path.exists():
            _create_secret(path)
        secret = path.read_bytes()
    except OSError as error:
        raise SetupError(
            f"cannot store a secret at {path} ({error.strerror}): "
            "choose a writable directory, or set `secret` in the settings."
        ) from error
    if len(secret) != SECRET_BYTES:
        raise SetupError(
            f"{path} is not a secret of {SECRET_BYTES} bytes: restore it, or delete it to create a new one "
            "(existing file URLs will then no longer work)."
        )
    return secret


def _create_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{SECRET_FILE}-") as draft:  # mode 0600
        draft.write(os.urandom(SECRET_BYTES))
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, path)  # atomic, and only the first process succeeds
