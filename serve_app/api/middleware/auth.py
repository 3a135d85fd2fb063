"""API keys at the door: who asks, or 401. In the application only where keys are required."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.fal import JWKS_PATHS, QUEUE_OPENAPI
from serve_app.files.signing import Purpose, Signer, TokenRejected

if TYPE_CHECKING:
    from serve_app.accounts.verifier import Verifier

OPEN = frozenset(("/health", "/openapi.json", QUEUE_OPENAPI, "/docs", "/docs/oauth2-redirect", *JWKS_PATHS))
TOKEN = "fal_jwt_token"  # in the query, where clients send a token in place of a key

MISSING = "Authentication is required: send the header Authorization: Key <id>:<secret>."
MALFORMED = "Invalid Key Authorization header format. Expected: Key <id>:<secret>."
WRONG = "No user found for Key ID and Secret"
FOREIGN = "The token is not valid for this path. Ask for a new one."

_SCHEMES = ("key", "bearer")
_APP_PATH = re.compile(r"(?:/run|/queue)?/fal-ai/([^/]+)(?:/|\Z)")


class Refused(Exception):
    """Nobody known asks; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks."""

    account: str
    admin: bool = False


class Authentication:
    """Puts `account` and `admin` into the request's state, for `account_of` and whoever needs more."""

    def __init__(self, app: ASGIApp, verifier: Verifier, signer: Signer) -> None:
        self.app = app
        self._verifier = verifier
        self._signer = signer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS" or _path(scope) in OPEN:
            await self.app(scope, receive, send)
            return
        try:
            who = await self._identify(scope)
        except Refused as refusal:
            headers = {"WWW-Authenticate": "Key"}
            await JSONResponse({"detail": str(refusal)}, 401, headers)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(account=who.account, admin=who.admin)
        await self.app(scope, receive, send)

    async def _identify(self, scope: Scope) -> Identity:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if header is None:
            token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get(TOKEN)
            if not token:
                raise Refused(MISSING)
            return self._by_token(token[0], scope)
        scheme, _, credentials = header.decode("latin-1").strip().partition(" ")
        key_id, colon, secret = credentials.strip().partition(":")
        if scheme.lower() == "bearer" and key_id and not colon:
            return self._by_token(key_id, scope)
        if scheme.lower() not in _SCHEMES or not (key_id and secret):
            raise Refused(MALFORMED)
        key = await self._verifier.verify(key_id, secret)
        if key is None:
            raise Refused(WRONG)
        return Identity(key.account, key.admin)

    def _by_token(self, token: str, scope: Scope) -> Identity:
        """A token stands for its account before the applications that it names, and nowhere else."""
        try:
            claims = self._signer.claims(Purpose.APP, token)
        except TokenRejected as error:
            raise Refused(str(error)) from error
        app = _APP_PATH.match(_path(scope))
        named = [name.rpartition("/")[2] for name in claims["apps"]]
        if app is None or app[1] not in named or claims["account"] is None:
            raise Refused(FOREIGN)
        return Identity(claims["account"])


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
