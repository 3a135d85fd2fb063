"""Assembles the HTTP application from routers, middleware and error handlers."""

from __future__ import annotations

from fastapi import FastAPI

from serve_app import __version__
from serve_app.api.middleware.auth import Authentication
from serve_app.api.middleware.cors import Cors, Preflights
from serve_app.api.middleware.host_prefix import HostPrefixes
from serve_app.api.middleware.rate import RequestRate
from serve_app.api.middleware.request_id import RequestId, ServerTiming
from serve_app.api.openapi import describe_bodies
from serve_app.api.queue_schema import QueueStatus
from serve_app.api.replies import install_error_handlers
from serve_app.api.routes.client_proxy import ClientProxy, client_proxy_router
from serve_app.api.routes.health import health_router
from serve_app.api.routes.history import HistoryRoutes
from serve_app.api.routes.jwks import jwks_router
from serve_app.api.routes.openapi import openapi_router
from serve_app.api.routes.playground import playground_router
from serve_app.api.routes.queue import QueueRoutes
from serve_app.api.routes.run import RunRoutes
from serve_app.api.routes.uploads import AppTokenInput, StorageRoutes, UploadInput
from serve_app.api.schema import VideoInput
from serve_app.api.services import Services
from serve_app.callers import CallerGuard


def make_app(services: Services) -> FastAPI:
    """Returns the application over opened `services`."""
    app = FastAPI(
        title="Video background removal",
        version=__version__,
        description="A self-hosted `fal-ai/birefnet/v2/video`.",
        # Clients do not follow redirects: a path with an extra slash is not found.
        redirect_slashes=False,
        redoc_url=None,
    )
    # The last one added is the outermost: replies of the authentication have a request id too.
    app.add_middleware(RequestRate, quotas=services.quotas)
    if services.verifier is not None:
        app.add_middleware(Authentication, verifier=services.verifier, signer=services.urls.links.signer)
    app.add_middleware(ClientProxy)
    app.add_middleware(HostPrefixes)
    app.add_middleware(Preflights)
    app.add_middleware(RequestId)
    app.add_middleware(ServerTiming)
    app.add_middleware(Cors)
    if services.callers is not None:  # outside CORS: a page that is refused cannot read that it is
        app.add_middleware(CallerGuard, callers=services.callers)
    install_error_handlers(app)
    app.include_router(health_router(services))
    app.include_router(RunRoutes(services).router())
    app.include_router(QueueRoutes(services).router())
    app.include_router(StorageRoutes(services).router())
    app.include_router(jwks_router(services.webhook_keys))
    app.include_router(HistoryRoutes(services).router())
    app.include_router(openapi_router(services))
    app.include_router(client_proxy_router())
    app.include_router(playground_router(services))
    describe_bodies(app, VideoInput, QueueStatus, UploadInput, AppTokenInput)
    return app
