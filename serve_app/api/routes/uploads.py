"""The REST routes before an upload: where it may go, and with which token. The bytes go to the file server.

Each is at the vendor's own path, for its host name, and below `/rest`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from serve_app.api.bodies import read_body
from serve_app.api.openapi import body_of, error_replies, response
from serve_app.api.services import Services
from serve_app.api.submission import account_of
from serve_app.fal import REST
from serve_app.files.signing import Purpose
from serve_app.files.upload_names import expiry, lifetime_in, new_upload
from serve_app.files.uploads import PARTS_S, PUT_S, TOKEN_S, parts_token, put_token
from serve_app.parsing import parse_object, validated

LARGEST_BODY = 1 << 20

STORAGE_TYPE = {
    "name": "storage_type",
    "in": "query",
    "required": False,
    "description": "`fal-cdn-v3` or `gcs`, as the clients send it; there is one storage here.",
    "schema": {"type": "string"},
}
LIFECYCLE = {
    "name": "X-Fal-Object-Lifecycle",
    "in": "header",
    "required": False,
    "description": 'How long the file lives, as JSON: {"expiration_duration_seconds": 3600}; null keeps it.',
    "schema": {"type": "string"},
}

M = TypeVar("M", bound=BaseModel)


class UploadInput(BaseModel):
    """A file that is to be uploaded."""

    file_name: str = Field(description="Its name.", examples=["clip.mp4"])
    content_type: str = Field(description="Its media type.", examples=["video/mp4"])


class UploadTarget(BaseModel):
    """Where to upload a file, and where it will be."""

    upload_url: str = Field(description="Takes the bytes by PUT; in parts: PUT …/{n}, then POST …/complete.")
    file_url: str = Field(
        description="Where the file can be downloaded afterwards, and what to use as input."
    )


class UploadToken(BaseModel):
    """A bearer token for the file server's upload routes."""

    token: str
    token_type: Literal["Bearer"]
    base_url: str = Field(description="The file server.")
    expires_at: str = Field(description="ISO 8601 with offset.")


class AppTokenInput(BaseModel):
    """What a token is to allow."""

    allowed_apps: list[str] = Field(description="Aliases of applications.", examples=[["birefnet"]])
    token_expiration: int = Field(120, ge=1, le=86_400, description="Seconds that it is good for.")


class Storage:
    """The routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._limits = services.uploads
        self._urls = services.urls
        self._signer = services.urls.links.signer

    def router(self) -> APIRouter:
        upload = body_of(UploadInput, STORAGE_TYPE, LIFECYCLE)
        parts = "/storage/upload/initiate-multipart"
        token: dict[str, Any] = {"parameters": [STORAGE_TYPE]}
        app_token = body_of(AppTokenInput)
        router = APIRouter(tags=["storage"])
        for path, handler, reply, extra, summary in (
            ("/storage/upload/initiate", self.initiate, UploadTarget, upload, "Announce an upload"),
            (parts, self.initiate_multipart, UploadTarget, upload, "Announce an upload in parts"),
            ("/storage/auth/token", self.upload_token, UploadToken, token, "Get a token for uploads"),
            ("/tokens/", self.app_token, str, app_token, "Get a token in place of the API key"),
        ):
            for prefix, suffix in (("", ""), (REST, "_prefixed")):
                router.add_api_route(
                    prefix + path,
                    handler,
                    methods=["POST"],
                    operation_id=handler.__name__ + suffix,
                    summary=summary,
                    responses={200: response(reply, "Granted."), **error_replies(422)},
                    openapi_extra=extra,
                )
        return router

    async def initiate(self, request: Request) -> Response:
        name = await self._announced(request, PUT_S)
        token = put_token(self._signer, name, account_of(request))
        return self._target("/files/upload", token, name, request)

    async def initiate_multipart(self, request: Request) -> Response:
        name = await self._announced(request, PARTS_S)
        token = parts_token(self._signer, name, account_of(request))
        return self._target("/files/upload/multipart", token, name, request)

    async def upload_token(self, request: Request) -> Response:
        token = self._signer.token(Purpose.UPLOADS, {"account": account_of(request)}, TOKEN_S)
        expires = self._signer.claims(Purpose.UPLOADS, token)["exp"]
        return JSONResponse(
            {
                "token": token,
                "token_type": "Bearer",
                "base_url": self._urls.base(request),
                "expires_at": datetime.fromtimestamp(expires, UTC).isoformat(),
            }
        )

    async def app_token(self, request: Request) -> Response:
        wanted = await _body(request, AppTokenInput)
        claims = {"account": account_of(request), "apps": wanted.allowed_apps}
        return JSONResponse(self._signer.token(Purpose.APP, claims, wanted.token_expiration))

    async def _announced(self, request: Request, time_s: float) -> str:
        """A name for the upload; the file lives at least as long as its upload may take."""
        wanted = await _body(request, UploadInput)
        lifetime_s = lifetime_in(request.headers, self._limits.lifetime_s)
        return new_upload(wanted.file_name, wanted.content_type, expiry(lifetime_s, time_s))

    def _target(self, path: str, token: str, name: str, request: Request) -> Response:
        base = self._urls.base(request)
        return JSONResponse(
            {"upload_url": f"{base}{path}?token={token}", "file_url": self._urls.links.at(name, base)}
        )


async def _body(request: Request, model: type[M]) -> M:
    """The body as `model`, whatever its Content-Type; `InvalidInput` otherwise."""
    return validated(model, parse_object(await read_body(request, LARGEST_BODY)))
