"""Authentication by API key or token; installed only if keys are required."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.playground import CONTENTS
from serve_app.fal import JWKS_PATHS, QUEUE_OPENAPI
from serve_app.files.signing import Purpose, Signer, TokenRejected

if TYPE_CHECKING:
    from serve_app.accounts.verifier import Verifier

PUBLIC_PATHS = frozenset(
    ("/health", "/openapi.json", QUEUE_OPENAPI, "/docs", "/docs/oauth2-redirect", *JWKS_PATHS, *CONTENTS)
)
TOKEN = "fal_jwt_token"  # the query parameter in which clients send a token instead of a key

MISSING = "Authentication is required: send the header Authorization: Key <id>:<secret>."
MALFORMED = "Invalid Key Authorization header format. Expected: Key <id>:<secret>."
UNKNOWN_KEY = "No user found for Key ID and Secret"
REVOKED = "The key that the token was made with is not valid any more."
WRONG_PATH = "The token is not valid for this path. Request a new one."

_SCHEMES = ("key", "bearer")
_APP_PATH = re.compile(r"(?:/run|/queue)?/fal-ai/([^/]+)(?:/|\Z)")


class Unauthorized(Exception):
    """The request is not authenticated; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The authenticated account, its key, and whether that is an admin key."""

    account: str
    key_id: str
    admin: bool = False


class Authentication:
    """Stores `account`, `key_id` and `admin` in the request's state, or replies 401."""

    def __init__(self, app: ASGIApp, verifier: Verifier, signer: Signer) -> None:
        self.app = app
        self._verifier = verifier
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS" or path_of(scope) in PUBLIC_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            identity = await self._identify(scope)
        except Unauthorized as error:
            headers = {"WWW-Authenticate": "Key"}
            await JSONResponse({"detail": str(error)}, 401, headers)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(**asdict(identity))
        await self.app(scope, receive, send)

    async def _identify(self, scope: Scope) -> Identity:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if header is None:
            token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get(TOKEN)
            if not token:
                raise Unauthorized(MISSING)
            return await self._by_token(token[0], scope)
        scheme, _, credentials = header.decode("latin-1").strip().partition(" ")
        key_id, colon, secret = credentials.strip().partition(":")
        if scheme.lower() == "bearer" and key_id and not colon:
            return await self._by_token(key_id, scope)
        if scheme.lower() not in _SCHEMES or not (key_id and secret):
            raise Unauthorized(MALFORMED)
        key = await self._verifier.verify(key_id, secret)
        if key is None:
            raise Unauthorized(UNKNOWN_KEY)
        return Identity(key.account, key.id, key.admin)

    async def _by_token(self, token: str, scope: Scope) -> Identity:
        """Accepts a token for the applications that it names, while its key is valid. Raises `Unauthorized`."""
        try:
            claims = self._signer.claims(Purpose.APP, token)
        except TokenRejected as error:
            raise Unauthorized(str(error)) from error
        app = _APP_PATH.match(path_of(scope))
        named = [name.rpartition("/")[2] for name in claims["apps"]]
        if app is None or app[1] not in named or claims["account"] is None:
            raise Unauthorized(WRONG_PATH)
        key = claims.get("key")  # tokens of versions before this one name none
        if key is None or not await self._verifier.is_valid(key):
            raise Unauthorized(REVOKED)
        return Identity(claims["account"], key)


def path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
