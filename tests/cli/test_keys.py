"""`birefnet-serve keys`, on a data directory of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app
from serve_app.database.migrate import migrate
from serve_app.webhooks.signing_keys import KeyFile

ROOT = Path(__file__).parents[2]
Keys = Callable[..., Result]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    migrate(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    common = ["--config", str(ROOT / "config" / "local.yaml"), "--data-dir", str(tmp_path)]
    return lambda *arguments: CliRunner().invoke(app, ["keys", *arguments, *common])


def test_the_lifecycle_of_a_key(keys: Keys) -> None:
    made = keys("create", "--name", "laptop [1]", "--admin")
    assert made.exit_code == 0
    key_id, _, secret = made.stdout.strip().partition(":")
    account = made.stderr.partition("account ")[2].partition(";")[0]
    assert keys("create", "--name", "second", "--account", account).exit_code == 0

    listed = keys("list").stdout
    first, second = listed.splitlines()[1:]
    assert key_id in first and "laptop [1]" in first and first.rstrip().endswith("yes")
    assert account in first and account in second and secret not in listed

    assert keys("revoke", key_id).exit_code == 0
    again = keys("revoke", key_id)
    assert again.exit_code == 1 and "no valid key" in again.stderr


def test_setup_errors_are_printed_in_one_line(keys: Keys, tmp_path: Path) -> None:
    unknown = keys("create", "--name", "x", "--account", "no-such")
    assert unknown.exit_code == 2 and "leave out --account" in unknown.stderr and unknown.stdout == ""
    (tmp_path / "jobs.sqlite").unlink()
    none = keys("list")
    assert none.exit_code == 2 and "birefnet-serve migrate" in none.stderr


def test_webhook_keys_rotate_in_a_day_or_immediately(keys: Keys, tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "webhook-keys.json")
    old = file.ring().signer(time.time()).public["kid"]
    assert keys("rotate-webhook").exit_code == 0
    assert len(file.ring().keys) == 2 and file.ring().signer(time.time()).public["kid"] == old
    rotated = keys("rotate-webhook", "--now")
    new = file.ring().signer(time.time()).public["kid"]
    assert new != old and new in rotated.stderr
    assert [key["kid"] for key in file.ring().published(time.time())["keys"]] == [old, new]
