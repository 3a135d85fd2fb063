"""API keys: what is stored, which secrets match, revocation, and the verifier's cache."""

from __future__ import annotations

import uuid
from dataclasses import asdict

import pytest

from serve_app.accounts.keys import ApiKey, KeyTable, UnknownAccount, hash_secret
from serve_app.accounts.verifier import MAX_CACHED, Verifier


async def test_a_key_is_stored_without_its_secret(table: KeyTable) -> None:
    made = await table.create("laptop", admin=True)
    key_id, _, secret = made.text.partition(":")
    assert str(uuid.UUID(key_id)) == made.key.id == key_id and len(secret) >= 43
    assert str(uuid.UUID(made.key.account)) == made.key.account != key_id
    kept = await table.find(key_id)
    assert kept == made.key and kept.admin and kept.name == "laptop"
    assert secret not in str(asdict(kept))
    assert kept.matches(secret)
    for wrong in ("", secret[:-1], secret + "a", secret.swapcase(), kept.secret_hash, "ä", "\udcff"):
        assert not kept.matches(wrong)


async def test_keys_share_an_account_only_on_request(table: KeyTable) -> None:
    first = (await table.create("first")).key
    second = (await table.create("second", first.account)).key
    third = (await table.create("third")).key
    assert second.account == first.account != third.account
    assert not second.admin
    assert [key.name for key in await table.all()] == ["first", "second", "third"]
    with pytest.raises(UnknownAccount, match="no-such"):
        await table.create("fourth", "no-such")


async def test_a_key_is_revoked_once_and_stays_listed(table: KeyTable) -> None:
    key = (await table.create("laptop")).key
    assert await table.revoke(key.id)
    assert not await table.revoke(key.id) and not await table.revoke("no-such")
    (listed,) = await table.all()
    assert listed.revoked_at is not None and listed.revoked_at >= listed.created_at


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_verifier_accepts_only_the_right_secret(table: KeyTable) -> None:
    made = await table.create("laptop")
    verifier = Verifier(table, 5.0)
    for _ in range(2):
        assert await verifier.verify(made.key.id, made.secret) == made.key
        assert await verifier.verify(made.key.id, made.secret + "x") is None
        assert await verifier.verify(made.key.id, "") is None
    for unknown in (str(uuid.uuid4()), "", "ä", "x" * 100_000, "\x00"):
        assert await verifier.verify(unknown, made.secret) is None
        assert await verifier.verify(unknown, "") is None


async def test_a_revoked_key_is_refused_once_its_cache_entry_expires(table: KeyTable) -> None:
    made = await table.create("laptop")
    clock = Clock()
    verifier = Verifier(table, 5.0, clock)
    assert await verifier.verify(made.key.id, made.secret)
    await table.revoke(made.key.id)
    clock.now = 4.9
    assert await verifier.verify(made.key.id, made.secret)  # from the cache, without a query
    clock.now = 5.0
    assert await verifier.verify(made.key.id, made.secret) is None
    assert await Verifier(table, 5.0, clock).verify(made.key.id, made.secret) is None


async def test_a_new_key_works_at_once_even_after_a_guess_at_its_id(table: KeyTable) -> None:
    made = await table.create("laptop")
    later: dict[str, ApiKey] = {}

    class Keys:
        async def find(self, key_id: str) -> ApiKey | None:
            return later.get(key_id)

    verifier = Verifier(Keys(), 5.0)
    assert await verifier.verify(made.key.id, made.secret) is None
    later[made.key.id] = made.key
    assert await verifier.verify(made.key.id, made.secret)


async def test_the_cache_is_bounded_and_guesses_evict_nothing() -> None:
    asked: list[str] = []

    class Keys:
        async def find(self, key_id: str) -> ApiKey | None:
            asked.append(key_id)
            return ApiKey(key_id, "a", "", hash_secret("s"), False, 0.0) if key_id.isdigit() else None

    verifier = Verifier(Keys(), 5.0, Clock())
    for number in range(MAX_CACHED):
        assert await verifier.verify(f"{number:036}", "s")
    for number in range(10):
        assert await verifier.verify(f"{number:035}-", "s") is None
    first, further = f"{0:036}", f"{MAX_CACHED:036}"
    asked.clear()
    assert await verifier.verify(first, "s")
    assert asked == []
    assert await verifier.verify(further, "s")
    assert await verifier.verify(first, "s")
    assert asked == [further, first]
