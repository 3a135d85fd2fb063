"""Signatures of our own: file URLs that need no account, and tokens that carry what their holder may do.

HMAC-SHA256 under one secret of the installation. Each purpose has a key of its own, so that what was signed for one
purpose means nothing for another. A file URL is `{base}/files/{signature}/{name}`: the signature stands in the path,
because clients append to such URLs (`…/multipart/{upload}/1`) and drop their query.
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
SHORTEST_SECRET = 16  # characters of a secret that is given in the settings
LONGEST_URL = 4096
SIGNATURE_BYTES = 24  # 192 bits; 32 characters without padding

_FILE = re.compile(r"/files/(?P<signature>[^/]+)/(?P<name>.+)")


class Purpose(StrEnum):
    """What a token is for."""

    UPLOADS = "uploads"  # store files at the file server
    PUT = "put"  # write one file
    PARTS = "parts"  # write one file in parts
    APP = "app"  # call the application in place of an API key


class TokenRejected(Exception):
    """The token is forged, for something else, or too old; the message says which."""


class Signer:
    """Signs and checks. All processes of an installation hold the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._file_key = _key(secret, "file")
        self._token_keys = {purpose: _key(secret, f"token:{purpose}") for purpose in Purpose}

    @classmethod
    def load(cls, secret: str | None, directory: Path) -> Self:
        """With the given secret, or the one in `directory`, which is made when it is missing."""
        if secret is None:
            return cls(_stored_secret(directory))
        if len(secret) < SHORTEST_SECRET:
            raise SetupError(
                f"The secret has {len(secret)} characters and needs {SHORTEST_SECRET}: "
                "set a random one, such as `openssl rand -hex 32` prints."
            )
        return cls(secret.encode())

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The installation's own. Raises SetupError when its secret cannot be used."""
        return cls.load(settings.secret_text, settings.data_dir)

    def sign_path(self, name: str) -> str:
        """The signature of the artifact `name`. It has no expiry: the URL ends when the file is deleted."""
        return _sign(self._file_key, name)

    def verifies(self, name: str, signature: str) -> bool:
        """Whether `signature` is that of the artifact `name`."""
        return hmac.compare_digest(self.sign_path(name).encode(), _utf8(signature))

    def file_path(self, name: str) -> str:
        """The path of the artifact's URL, below the file server's base."""
        return f"/files/{self.sign_path(name)}/{quote(name)}"

    def name_in(self, url: str) -> str | None:
        """The artifact that `url` stands for, by whatever host it was reached, or None when it is not one of ours."""
        if len(url) > LONGEST_URL or not url.startswith(("http://", "https://")):
            return None  # a data URI above all, which may be half a gigabyte
        try:
            match = _FILE.search(urlsplit(url).path)
        except ValueError:
            return None
        if not match:
            return None
        name = unquote(match["name"])
        return name if self.verifies(name, match["signature"]) else None

    def token(self, purpose: Purpose, claims: Mapping[str, Any], lifetime_s: float) -> str:
        """A text that is safe in URLs and headers, for `lifetime_s` seconds from now."""
        body = {**claims, "exp": int(time.time() + lifetime_s)}
        text = urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).decode().rstrip("=")
        return f"{text}.{_sign(self._token_keys[purpose], text)}"

    def claims(self, purpose: Purpose, token: str) -> dict[str, Any]:
        """What `token` says, its expiry as `exp` (epoch seconds); `TokenRejected` otherwise."""
        text, _, signature = token.partition(".")
        expected = _sign(self._token_keys[purpose], text)
        if not hmac.compare_digest(expected.encode(), _utf8(signature)):
            raise TokenRejected("The token is not valid here. Ask for a new one.")
        claims: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if claims["exp"] <= time.time():
            raise TokenRejected("The token has expired. Ask for a new one.")
        return claims


def _key(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, f"birefnet-serve:{purpose}".encode(), hashlib.sha256)


def _sign(key: bytes, text: str) -> str:
    digest = hmac.digest(key, _utf8(text), hashlib.sha256)
    return urlsafe_b64encode(digest[:SIGNATURE_BYTES]).decode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # whatever a URL was decoded to


def _stored_secret(directory: Path) -> bytes:
    """The secret in its file. Of several processes that find none, one makes it and all read that one."""
    path = directory / SECRET_FILE
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_bytes()
    except OSError as error:
        raise SetupError(
            f"cannot keep a secret at {path} ({error.strerror}): "
            "choose a directory that can be written to, or give the secret in the settings."
        ) from error
    if len(secret) != SECRET_BYTES:
        raise SetupError(
            f"{path} is no secret of {SECRET_BYTES} bytes: restore it, or delete it to have a new one made "
            "(file URLs given out before will then no longer work)."
        )
    return secret


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{SECRET_FILE}-") as draft:  # mode 0600
        draft.write(os.urandom(SECRET_BYTES))
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, path)  # whole or not at all, and only for the first
