"""`/api/fal/proxy`: the clients' proxy mode. A header names the vendor's URL to call, and this service answers for it.

No request is forwarded: the vendor's hosts stand for path prefixes of this application, as its virtual hosts do.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.errors import BadRequest
from serve_app.fal import CLIENT_PROXY, QUEUE, REST, RUN

TARGET = "x-fal-target-url"
PREFIXES = {"fal.run": RUN, "queue.fal.run": QUEUE, "rest.fal.ai": REST}

TARGET_PARAMETER = {
    "name": TARGET,
    "in": "header",
    "required": True,
    "description": f"The target URL, at one of the hosts {', '.join(PREFIXES)}.",
    "schema": {"type": "string", "format": "uri"},
}


class ClientProxy:
    """Replaces the path and query of a proxy request by those of its target, which then answers it.

    Outside authentication: whether a key is required depends on the target. A request without a valid target keeps its
    path and reaches the route that refuses it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            if scope["path"].removeprefix(root) == CLIENT_PROXY and (target := _target(scope)) is not None:
                path, query = target
                scope = {
                    **scope,
                    "path": root + unquote(path),
                    "raw_path": (root + path).encode(),
                    "query_string": query.encode(),
                }
        await self.app(scope, receive, send)


def client_proxy_router() -> APIRouter:
    """The route that refuses requests without a valid target; its OpenAPI description covers all proxy requests."""
    router = APIRouter(tags=["proxy"])
    for method in ("GET", "POST", "PUT"):
        router.add_api_route(
            CLIENT_PROXY,
            _refuse,
            methods=[method],
            operation_id=f"proxy_{method.lower()}",
            summary="Call a URL of the vendor",
            response_class=Response,
            responses={
                200: {"description": "The reply of the target."},
                "default": {
                    "description": "The reply of the target, or 400 if the target is missing or invalid."
                },
            },
            openapi_extra={"parameters": [TARGET_PARAMETER]},
        )
    return router


async def _refuse(request: Request) -> Response:
    hosts = ", ".join(f"https://{host}/" for host in PREFIXES)
    if TARGET not in request.headers:
        raise BadRequest(f"The header {TARGET} is missing: set it to a URL below {hosts}.")
    raise BadRequest(f"The header {TARGET} names no URL of this service: use one below {hosts}.")


def _target(scope: Scope) -> tuple[str, str] | None:
    """The quoted path and the query of the target in this application, or None if it has no valid target."""
    header = next((value for name, value in scope["headers"] if name == TARGET.encode()), b"")
    try:
        parts = urlsplit(header.decode("ascii"))
    except ValueError:
        return None
    # Compares the whole authority: a port or a user makes it a different one.
    prefix = PREFIXES.get(parts.netloc.lower()) if parts.scheme == "https" else None
    return None if prefix is None else (prefix + parts.path, parts.query)
