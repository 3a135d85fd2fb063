"""The HTTP application: routers, middleware and error shapes put together."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from serve_app import __version__
from serve_app.api.errors import install_error_handlers
from serve_app.api.middleware import RequestId
from serve_app.api.openapi import describe_bodies
from serve_app.api.run import Run
from serve_app.api.schema import VideoInput
from serve_app.api.services import Services


def make_app(services: Services) -> FastAPI:
    """The application over opened `services`. Each area of the API is a router built from them."""
    app = FastAPI(
        title="Video background removal",
        version=__version__,
        description="A self-hosted `fal-ai/birefnet/v2/video`.",
        # Clients do not follow redirects: a path with a slash too many is simply not there.
        redirect_slashes=False,
        redoc_url=None,
    )
    app.add_middleware(RequestId)
    install_error_handlers(app)
    app.include_router(_health(services))
    app.include_router(Run(services).router())
    describe_bodies(app, VideoInput)
    return app


def _health(services: Services) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/health", summary="Whether requests can be taken")
    async def health() -> JSONResponse:
        counts = await services.store.counts()
        return JSONResponse({"status": "ok", "jobs": {state.value.lower(): n for state, n in counts.items()}})

    return router
