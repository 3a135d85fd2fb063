"""`/.well-known/jwks.json`: the keys by which receivers know our webhooks."""

from __future__ import annotations

import time

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serve_app.fal import JWKS_PATHS
from serve_app.webhooks.signing_keys import KeyFile

FRESH_S = 3600


def jwks_router(keys: KeyFile) -> APIRouter:
    """The same document at the root and below `/rest`, for receivers that map the vendor's hosts to prefixes."""
    router = APIRouter(tags=["webhooks"])

    async def jwks() -> JSONResponse:
        document = keys.ring().published(time.time())
        return JSONResponse(document, headers={"Cache-Control": f"public, max-age={FRESH_S}"})

    for path, name in zip(JWKS_PATHS, ("jwks", "jwks_prefixed"), strict=True):
        router.add_api_route(
            path,
            jwks,
            methods=["GET"],
            name=name,
            operation_id=name,
            summary="The keys that webhooks are signed with",
        )
    return router
