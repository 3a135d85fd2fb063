"""The storage routes: upload targets and tokens. The uploads themselves go to the file server.

Each route is at the vendor's own path, for its host name, and below `/rest`.
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

MAX_BODY_BYTES = 1 << 20

STORAGE_TYPE = {
    "name": "storage_type",
    "in": "query",
    "required": False,
    "description": "`fal-cdn-v3` or `gcs`, as clients send it; ignored, as this service has one storage.",
    "schema": {"type": "string"},
}
LIFECYCLE = {
    "name": "X-Fal-Object-Lifecycle",
    "in": "header",
    "required": False,
    "description": 'Lifetime of the file, as JSON: {"expiration_duration_seconds": 3600}; null keeps it.',
    "schema": {"type": "string"},
}

M = TypeVar("M", bound=BaseModel)


class UploadInput(BaseModel):
    """A file to upload."""

    file_name: str = Field(description="The file's name.", examples=["clip.mp4"])
    content_type: str = Field(description="The file's media type.", examples=["video/mp4"])


class UploadTarget(BaseModel):
    """The upload URL of a file, and its later download URL."""

    upload_url: str = Field(description="PUT the bytes here; in parts: PUT …/{n}, then POST …/complete.")
    file_url: str = Field(description="URL of the uploaded file, for downloads and as input.")


class UploadToken(BaseModel):
    """A bearer token for the file server's upload routes."""

    token: str
    token_type: Literal["Bearer"]
    base_url: str = Field(description="URL of the file server.")
    expires_at: str = Field(description="ISO 8601 with offset.")


class AppTokenInput(BaseModel):
    """A request for a token that replaces the API key."""

    allowed_apps: list[str] = Field(
        description="Aliases of the applications that it may call.", examples=[["birefnet"]]
    )
    token_expiration: int = Field(120, ge=1, le=86_400, description="Lifetime in seconds.")


class StorageRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services
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
            ("/tokens/", self.app_token, str, app_token, "Get a token that replaces the API key"),
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
        name = await self._new_name(request, PUT_S)
        token = put_token(self._signer, name, account_of(request))
        return self._target(f"/files/upload?token={token}", name, request)

    async def initiate_multipart(self, request: Request) -> Response:
        name = await self._new_name(request, PARTS_S)
        token = parts_token(self._signer, name, account_of(request))
        return self._target(f"/files/upload/multipart/{token}", name, request)

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
        wanted = await self._body(request, AppTokenInput)
        key_id = request.scope["state"].get("key_id")
        claims = {"account": account_of(request), "key": key_id, "apps": wanted.allowed_apps}
        return JSONResponse(self._signer.token(Purpose.APP, claims, wanted.token_expiration))

    async def _new_name(self, request: Request, time_s: float) -> str:
        """Returns a new name for the announced upload, which expires no earlier than `time_s` from now."""
        wanted = await self._body(request, UploadInput)
        lifetime_s = lifetime_in(request.headers, self._limits.lifetime_s)
        return new_upload(wanted.file_name, wanted.content_type, expiry(lifetime_s, time_s))

    async def _body(self, request: Request, model: type[M]) -> M:
        """Parses the body as `model`, whatever its Content-Type. Raises `InvalidInput`."""
        with self._services.quotas.body(account_of(request)) as taken:
            body = await read_body(request, MAX_BODY_BYTES, self._services.limits.body_s, taken)
            return validated(model, parse_object(body))

    def _target(self, path: str, name: str, request: Request) -> Response:
        base = self._urls.base(request)
        return JSONResponse({"upload_url": base + path, "file_url": self._urls.links.at(name, base)})
