"""File URLs, tokens, and one secret for all processes."""

from __future__ import annotations

import json
import multiprocessing
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import pytest

from serve_app.errors import SetupError
from serve_app.files.signing import Purpose, Signer, TokenRejected
from tests.waiting import PATIENCE_S

SIGNER = Signer(b"a secret of this test")
NAME = "outputs/0b0c/1/output.webm"
TEXT = set(string.ascii_letters + string.digits + "-_.")


def test_a_path_signature_is_for_one_name_under_one_secret() -> None:
    signature = SIGNER.sign_path(NAME)
    assert SIGNER.verifies(NAME, signature) and Signer(b"a secret of this test").verifies(NAME, signature)
    assert len(signature) == 32 and set(signature) <= TEXT
    assert not SIGNER.verifies(NAME + "x", signature)
    assert not SIGNER.verifies("", signature)
    assert not Signer(b"another secret").verifies(NAME, signature)
    for forged in (
        "",
        "x",
        signature[:-1],
        signature + "=",
        signature + "A",
        signature.swapcase(),
        "é" * 32,
        "\udcff",
    ):
        assert not SIGNER.verifies(NAME, forged)
    for position in range(32):
        letter = "A" if signature[position] != "A" else "B"
        assert not SIGNER.verifies(NAME, signature[:position] + letter + signature[position + 1 :])


def test_a_token_returns_its_claims() -> None:
    token = SIGNER.token(Purpose.UPLOADS, {"account": "ä", "n": None}, 60)
    claims = SIGNER.claims(Purpose.UPLOADS, token)
    assert set(token) <= TEXT
    assert (claims["account"], claims["n"]) == ("ä", None) and isinstance(claims["exp"], int)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_token_is_for_one_purpose(purpose: Purpose) -> None:
    token = SIGNER.token(purpose, {"account": None}, 60)
    assert SIGNER.claims(purpose, token)
    for other in set(Purpose) - {purpose}:
        with pytest.raises(TokenRejected, match="The token is not valid"):
            SIGNER.claims(other, token)
    text, _, signature = token.partition(".")
    assert not SIGNER.verifies(text, signature)


def test_a_path_signature_is_not_a_token() -> None:
    text = SIGNER.token(Purpose.PUT, {"account": None}, 60).partition(".")[0]
    for purpose in Purpose:
        with pytest.raises(TokenRejected):
            SIGNER.claims(purpose, f"{text}.{SIGNER.sign_path(text)}")


def test_forged_tokens() -> None:
    token = SIGNER.token(Purpose.UPLOADS, {"account": "me"}, 60)
    text, _, signature = token.partition(".")
    claims = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    other = urlsafe_b64encode(json.dumps(claims | {"account": "you"}).encode()).decode().rstrip("=")
    for forged in (
        "",
        ".",
        text,
        f"{text}.",
        f".{signature}",
        f"{other}.{signature}",
        token + "x",
        "é.é",
        "\udcff.",
    ):
        with pytest.raises(TokenRejected, match="The token is not valid"):
            SIGNER.claims(Purpose.UPLOADS, forged)
    with pytest.raises(TokenRejected, match="The token is not valid"):
        Signer(b"another secret").claims(Purpose.UPLOADS, token)


def test_an_expired_token() -> None:
    with pytest.raises(TokenRejected, match="expired"):
        SIGNER.claims(Purpose.PUT, SIGNER.token(Purpose.PUT, {}, -1))


def test_a_secret_is_created_once_and_kept_private(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    signature = Signer.load(None, directory).sign_path(NAME)
    (path,) = directory.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size == 32
    assert Signer.load(None, directory).verifies(NAME, signature)
    assert not Signer.load(None, tmp_path / "other").verifies(NAME, signature)


def test_a_configured_secret_takes_precedence(tmp_path: Path) -> None:
    given = Signer.load("0123456789abcdef", tmp_path)
    assert given.verifies(NAME, Signer.load("0123456789abcdef", tmp_path / "other").sign_path(NAME))
    assert not Signer.load("0123456789abcdeg", tmp_path).verifies(NAME, given.sign_path(NAME))
    assert list(tmp_path.iterdir()) == []


def test_invalid_secrets(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="15 characters and needs 16"):
        Signer.load("0123456789abcde", tmp_path)
    (tmp_path / "secret").write_bytes(b"half")
    with pytest.raises(SetupError, match="restore it, or delete it"):
        Signer.load(None, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="set `secret` in the settings"):
        Signer.load(None, tmp_path / "file" / "below")


def _sign(directory: Path, start: multiprocessing.synchronize.Barrier) -> str:
    start.wait(PATIENCE_S)
    return Signer.load(None, directory).sign_path(NAME)


def test_processes_started_at_once_share_one_secret(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(4) as pool:
        barrier = manager.Barrier(4)
        signatures = pool.starmap(_sign, [(tmp_path, barrier)] * 4, chunksize=1)
    assert len(set(signatures)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
