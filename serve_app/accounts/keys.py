"""API keys: `<id>:<secret>`. The id is public and names a row; of the secret only a hash is kept.

SHA-256 and no slow hash: a secret is 32 random bytes, which nobody can guess however fast he tries; slowness protects
only what people choose, and would cost each request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update

from serve_app.database.engine import unbroken
from serve_app.database.store import DatabaseStore
from serve_app.database.tables import api_keys, now
from serve_app.errors import SetupError

SECRET_BYTES = 32

_FIND = select(api_keys).where(api_keys.c.id == bindparam("id"))


class UnknownAccount(SetupError):
    """No key belongs to the account."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key. Keys of one `account` see the same jobs; `admin` ones may do more than ask for work."""

    id: str
    account: str
    name: str
    secret_hash: str
    admin: bool
    created_at: float
    revoked_at: float | None = None

    def opened_by(self, secret: str) -> bool:
        """Whether `secret` is the key's; takes the same time for any wrong one."""
        return hmac.compare_digest(self.secret_hash, hash_of(secret))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its secret: the only moment at which it is seen."""

    key: ApiKey
    secret: str

    @property
    def text(self) -> str:
        """What clients send."""
        return f"{self.key.id}:{self.secret}"


class KeyTable(DatabaseStore):
    """The keys in the database of the jobs."""

    @unbroken
    async def create(self, name: str, account: str | None = None, admin: bool = False) -> NewKey:
        """A key of a new account, or a further one of `account`; `UnknownAccount` when that has none."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        if account is not None and not await self._exists(account):
            raise UnknownAccount(
                f"no key belongs to the account {account}: leave --account out to get a new one"
            )
        row = {
            "id": str(uuid.uuid4()),
            "account": account or str(uuid.uuid4()),
            "name": name,
            "secret_hash": hash_of(secret),
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
        """Every key, revoked ones too, oldest first."""
        rows = await self._database.read(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
        return [_to_key(row) for row in rows]

    @unbroken
    async def revoke(self, key_id: str) -> bool:
        """Whether the key was valid until now."""
        valid = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        async with self._database.writing() as connection:
            done = await connection.execute(update(api_keys).where(valid).values(revoked_at=now()))
            return done.rowcount == 1

    async def _exists(self, account: str) -> bool:
        statement = select(api_keys.c.id).where(api_keys.c.account == account).limit(1)
        return bool(await self._database.read(statement))


def hash_of(secret: str) -> str:
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
