"""API keys: `<id>:<secret>`. The id is public and names a row; only a hash of the secret is stored.

The hash is SHA-256 rather than a slow one: a secret is 32 random bytes, which cannot be guessed at any speed. A slow
hash protects only passwords that people choose, and would slow down each request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update

from serve_app.database.engine import uninterrupted
from serve_app.database.store import DatabaseStore
from serve_app.database.tables import api_keys, now
from serve_app.errors import SetupError

SECRET_BYTES = 32

_FIND = select(api_keys).where(api_keys.c.id == bindparam("id"))


class UnknownAccount(SetupError):
    """The account has no key."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. Keys of one `account` see the same jobs; `admin` keys may also delete payloads."""

    id: str
    account: str
    name: str
    secret_hash: str
    admin: bool
    created_at: float
    revoked_at: float | None = None

    def matches(self, secret: str) -> bool:
        """Whether `secret` belongs to this key, compared in constant time."""
        return hmac.compare_digest(self.secret_hash, hash_secret(secret))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A newly created key with its secret, which cannot be retrieved later."""

    key: ApiKey
    secret: str

    @property
    def text(self) -> str:
        """The key as clients send it."""
        return f"{self.key.id}:{self.secret}"


class KeyTable(DatabaseStore):
    """The API keys in the service's database."""

    @uninterrupted
    async def create(self, name: str, account: str | None = None, admin: bool = False) -> NewKey:
        """Creates a key of `account`, or of a new account. Raises `UnknownAccount` if `account` has no key yet."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        if account is not None and not await self._exists(account):
            raise UnknownAccount(
                f"no key belongs to the account {account}: leave out --account to create a new one"
            )
        row = {
            "id": str(uuid.uuid4()),
            "account": account or str(uuid.uuid4()),
            "name": name,
            "secret_hash": hash_secret(secret),
            "admin": admin,
            "created_at": now(),
        }
        async with self._database.writing() as connection:
            made = (await connection.execute(insert(api_keys).values(row).returning(api_keys))).one()
        return NewKey(_to_key(made), secret)

    async def find(self, key_id: str) -> ApiKey | None:
        rows = await self._database.read(_FIND, {"id": key_id})
        return _to_key(rows[0]) if rows else None

    async def all(self) -> list[ApiKey]:
        """All keys, including revoked ones, oldest first."""
        rows = await self._database.read(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
        return [_to_key(row) for row in rows]

    @uninterrupted
    async def revoke(self, key_id: str) -> bool:
        """Revokes a key. Returns whether it was valid until now."""
        valid = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        async with self._database.writing() as connection:
            done = await connection.execute(update(api_keys).where(valid).values(revoked_at=now()))
            return done.rowcount == 1

    async def _exists(self, account: str) -> bool:
        statement = select(api_keys.c.id).where(api_keys.c.account == account).limit(1)
        return bool(await self._database.read(statement))


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        account=row.account,
        name=row.name,
        secret_hash=row.secret_hash,
        admin=row.admin,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )
