"""The signing keys: created once, private, rotated without a gap, published as a JWK set."""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from serve_app.errors import SetupError
from serve_app.webhooks.signing_keys import CACHED_S, KEPT_S, KeyFile, KeyRing

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys.json"


def kids(ring: KeyRing, now: float) -> list[str]:
    return [key["kid"] for key in ring.published(now)["keys"]]


def test_the_published_form(path: Path) -> None:
    (key,) = KeyFile(path).ring().published(time.time())["keys"]
    assert {k: v for k, v in key.items() if k not in ("kid", "x")} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
    }
    assert key["x"].endswith("=") and len(urlsafe_b64decode(key["x"])) == 32


def test_the_file_is_private_and_leaves_no_temporary_files(path: Path) -> None:
    keys = KeyFile(path)
    keys.ring()
    assert [p.name for p in path.parent.iterdir()] == ["keys.json"]
    assert path.stat().st_mode & 0o777 == 0o600
    keys.rotate()
    assert path.stat().st_mode & 0o777 == 0o600


def test_concurrent_starts_share_one_key(path: Path) -> None:
    start = threading.Barrier(8)
    found: list[KeyRing] = []

    def read() -> None:
        start.wait()
        found.append(KeyFile(path).ring())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({ring.installation for ring in found}) == 1
    assert len({tuple(kids(ring, time.time())) for ring in found}) == 1


def test_a_new_key_is_published_a_day_early_and_the_old_one_kept_two_days() -> None:
    first = KeyRing.new(NOW)
    ring = first.rotated(NOW, CACHED_S)
    old, new = kids(ring, NOW)
    assert kids(first, NOW) == [old]

    def signer(at: float) -> str:
        return ring.signer(at).public["kid"]

    assert signer(NOW) == signer(NOW + CACHED_S - 1) == old
    assert signer(NOW + CACHED_S) == new
    assert kids(ring, NOW + CACHED_S + KEPT_S - 1) == [old, new]
    assert kids(ring, NOW + CACHED_S + KEPT_S) == [new]
    assert len(ring.rotated(NOW + CACHED_S + KEPT_S, CACHED_S).keys) == 2


def test_every_cached_set_contains_the_signing_key() -> None:
    """Sets cached for up to a day, over several rotations at irregular times."""
    histories: list[tuple[float, KeyRing]] = [(NOW, KeyRing.new(NOW))]
    for hours in (30, 31, 50, 200, 300):
        at = NOW + hours * 3600
        histories.append((at, histories[-1][1].rotated(at, CACHED_S)))

    def ring_at(at: float) -> KeyRing:
        return [ring for start, ring in histories if start <= at][-1]

    for hour in range(24, 500):
        at = NOW + hour * 3600
        signing = ring_at(at).signer(at).public["kid"]
        for age in range(25):
            assert signing in kids(ring_at(at - age * 3600), at - age * 3600)


def test_immediate_rotation_drops_keys_that_never_signed() -> None:
    ring = KeyRing.new(NOW - 1).rotated(NOW, CACHED_S).rotated(NOW + 10, 0.0)
    assert len(ring.keys) == 2
    newest = ring.keys[-1].public["kid"]
    assert ring.signer(NOW + 10).public["kid"] == ring.signer(NOW + 2 * CACHED_S).public["kid"] == newest


def test_other_processes_see_a_rotation(path: Path) -> None:
    reader, writer = KeyFile(path), KeyFile(path)
    before = kids(reader.ring(), time.time())
    new = writer.rotate(0.0).public["kid"]
    assert kids(reader.ring(), time.time()) == [*before, new]
    assert reader.ring().signer(time.time()).public["kid"] == new
    assert reader.ring().installation == writer.ring().installation


def test_concurrent_rotations_lose_no_key(path: Path) -> None:
    KeyFile(path).ring()
    threads = [threading.Thread(target=KeyFile(path).rotate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeyFile(path).ring().keys) == 7


@pytest.mark.parametrize(
    "text", ["", "{}", '{"installation": "x", "keys": []}', '{"installation": "x", "keys": [1]}']
)
def test_an_invalid_file_is_reported_and_not_changed(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SetupError, match="restore it, or delete it"):
        KeyFile(path).ring()
    with pytest.raises(SetupError):
        KeyFile(path).rotate()
    assert path.read_text() == text


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"webhooks\.key_file"):
        KeyFile(tmp_path / "file" / "keys.json").ring()


def test_the_private_part_stays_in_the_file(path: Path) -> None:
    keys = KeyFile(path)
    published = json.dumps(keys.ring().published(time.time()))
    for key in json.loads(path.read_text())["keys"]:
        assert key["d"] not in published and '"d"' not in published
