"""`/.well-known/jwks.json`: the public keys for verifying webhook signatures (RFC 7517)."""

from __future__ import annotations

import time

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serve_app.fal import JWKS_PATHS
from serve_app.webhooks.signing_keys import KeyFile

MAX_AGE_S = 3600


def jwks_router(keys: KeyFile) -> APIRouter:
    """Serves the key set at the root and below `/rest`, for receivers that map the vendor's hosts to prefixes."""
    router = APIRouter(tags=["webhooks"])

    async def jwks() -> JSONResponse:
        document = keys.ring().published(time.time())
        return JSONResponse(document, headers={"Cache-Control": f"public, max-age={MAX_AGE_S}"})

    for path, name in zip(JWKS_PATHS, ("jwks", "jwks_prefixed"), strict=True):
        router.add_api_route(
            path,
            jwks,
            methods=["GET"],
            name=name,
            operation_id=name,
            summary="The public keys of webhook signatures",
        )
    return router
