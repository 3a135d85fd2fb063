"""The upload routes, as the vendor's clients use them.

    POST /files/upload                          Bearer    a whole file                        -> access_url
    POST /files/upload/multipart                Bearer    initiate a multipart upload         -> access_url, uploadId
    PUT  {access_url}/multipart/{uploadId}/{n}  Bearer    a part                              -> ETag
    POST {access_url}/multipart/{uploadId}/complete
    PUT  /files/upload?token=                   token     a whole file, initiated by the API
    POST /files/upload/multipart/{token}/{n}    token     where to put a part                 -> upload_url
    PUT  /files/upload/multipart/{token}/{n}    token     a part of one, initiated by the API -> partNumber, etag
    POST /files/upload/multipart/{token}/complete

The API's REST routes issue the tokens. That of an upload in parts is in the path, because some clients append the
number of a part to the whole URL, query included. Every reply has a JSON body: an empty one with
a JSON content type breaks the JavaScript client.
"""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_app.errors import ServiceError, to_wire
from serve_app.files.signing import Purpose, Signer, TokenRejected
from serve_app.files.upload_names import expiry, lifetime_in, new_upload
from serve_app.files.uploads import PARTS_S, Body, Grant, UploadRefused, Uploads, parts_token
from serve_app.parsing import InvalidInput, parse_json, validated
from serve_app.settings import UploadSettings

REFUSALS = (UploadRefused, TokenRejected, ServiceError, InvalidInput, ClientDisconnect)
MAX_COMPLETION_BYTES = 4 << 20  # of the JSON list of parts; 10,000 parts take 1 MB


class Part(BaseModel):
    """A part in the request that completes an upload; the `fal` SDK writes `part_number`."""

    partNumber: int = Field(validation_alias=AliasChoices("partNumber", "part_number"))
    etag: str


class Completion(BaseModel):
    """The request that completes an upload: all parts, in any order."""

    parts: list[Part]


class UploadRoutes:
    """The handlers. `public_url`: the file server's URL as clients see it, if not the request's host."""

    def __init__(
        self, uploads: Uploads, signer: Signer, limits: UploadSettings, public_url: str | None
    ) -> None:
        self._uploads = uploads
        self._signer = signer
        self._limits = limits
        self._public_url = public_url

    def routes(self) -> list[Route]:
        parts = "/files/{signature}/{name:path}/multipart/{upload}"
        return [
            Route("/files/upload", self.post, methods=["POST"]),
            Route("/files/upload", self.put, methods=["PUT"]),
            Route("/files/upload/multipart", self.initiate, methods=["POST"]),
            Route("/files/upload/multipart/{token}/complete", self.complete_with_token, methods=["POST"]),
            Route("/files/upload/multipart/{token}/{number}", self.announce_part, methods=["POST"]),
            Route("/files/upload/multipart/{token}/{number}", self.put_part_with_token, methods=["PUT"]),
            Route(parts + "/complete", self.complete, methods=["POST"]),
            Route(parts + "/{number}", self.put_part, methods=["PUT"]),
        ]

    async def post(self, request: Request) -> Response:
        self._account(request)
        name = await self._uploads.add(
            request.headers.get("x-fal-file-name"),
            request.headers.get("content-type"),
            self._lifetime(request),
            _body(request),
        )
        return JSONResponse({"access_url": self._url(name, request)})

    async def initiate(self, request: Request) -> Response:
        account = self._account(request)
        name = new_upload(
            request.headers.get("x-fal-file-name"),
            request.headers.get("content-type"),
            expiry(self._lifetime(request), at_least_s=PARTS_S),
        )
        token = parts_token(self._signer, name, account)
        return JSONResponse({"access_url": self._url(name, request), "uploadId": token})

    async def put_part(self, request: Request) -> Response:
        return await self._part(self._grant_in_path(request), request)

    async def complete(self, request: Request) -> Response:
        return await self._complete(self._grant_in_path(request), request)

    async def put(self, request: Request) -> Response:
        grant = Grant.read(self._signer, Purpose.PUT, request.query_params.get("token", ""))
        await self._uploads.put(grant, _body(request))
        return JSONResponse({"access_url": self._url(grant.name, request)})

    async def announce_part(self, request: Request) -> Response:
        """For the `fal` SDK, which asks for the URL of each part: the same one, by another method."""
        self._grant_in_token(request)
        return JSONResponse({"upload_url": self._base(request) + request.url.path})

    async def put_part_with_token(self, request: Request) -> Response:
        return await self._part(self._grant_in_token(request), request)

    async def complete_with_token(self, request: Request) -> Response:
        return await self._complete(self._grant_in_token(request), request)

    async def _part(self, grant: Grant, request: Request) -> Response:
        text = request.path_params["number"]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise HTTPException(404)
        etag = await self._uploads.put_part(grant, int(text), _body(request))
        quoted = f'"{etag}"'
        return JSONResponse({"partNumber": int(text), "etag": quoted}, headers={"ETag": quoted})

    async def _complete(self, grant: Grant, request: Request) -> Response:
        parts = (await _completion(request)).parts
        etags = {part.partNumber: part.etag for part in parts}
        if len(etags) != len(parts):
            raise UploadRefused(400, "invalid_part", "List each part once.")
        await self._uploads.complete(grant, etags)
        return JSONResponse({"access_url": self._url(grant.name, request)})

    def _account(self, request: Request) -> str | None:
        """The account of the Bearer token. Raises `TokenRejected` if it is missing or invalid."""
        scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise TokenRejected("Uploads need `Authorization: Bearer` with a token from /storage/auth/token.")
        account: str | None = self._signer.claims(Purpose.UPLOADS, token.strip())["account"]
        return account

    def _grant_in_path(self, request: Request) -> Grant:
        """The multipart upload that the path names, which must belong to the caller."""
        account = self._account(request)
        name = request.path_params["name"]
        grant = Grant.read(self._signer, Purpose.PARTS, request.path_params["upload"])
        signed = self._signer.verifies(name, request.path_params["signature"])
        if not signed or (grant.name, grant.account) != (name, account):
            raise HTTPException(404)
        return grant

    def _grant_in_token(self, request: Request) -> Grant:
        """The multipart upload that the token in the path allows. An Authorization header is ignored."""
        return Grant.read(self._signer, Purpose.PARTS, request.path_params["token"])

    def _lifetime(self, request: Request) -> float | None:
        return lifetime_in(request.headers, self._limits.lifetime_s)

    def _url(self, name: str, request: Request) -> str:
        return self._base(request) + self._signer.file_path(name)

    def _base(self, request: Request) -> str:
        return (self._public_url or str(request.base_url)).rstrip("/")


async def upload_error(request: Request, error: Exception) -> Response:
    """The reply to an exception of `REFUSALS`."""
    if isinstance(error, InvalidInput):
        return JSONResponse(error.wire.body, error.wire.status)
    if isinstance(error, ServiceError):
        wire = to_wire(error)
        return JSONResponse(wire.body, wire.status, wire.headers)
    if isinstance(error, TokenRejected):
        return JSONResponse({"detail": str(error)}, 401, {"WWW-Authenticate": "Bearer"})
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # no client reads it
    assert isinstance(error, UploadRefused)
    body = {"detail": error.message, "error_type": error.kind}
    return JSONResponse(body, error.status, {"X-Fal-Error-Type": error.kind})


def _body(request: Request) -> Body:
    length = request.headers.get("content-length")
    return Body(request.stream(), int(length) if length is not None else None)


async def _completion(request: Request) -> Completion:
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > MAX_COMPLETION_BYTES:
            raise UploadRefused(413, "request_too_large", "The list of parts is too long.")
    return validated(Completion, parse_json(bytes(text)))
