"""`/api/fal/proxy`: the clients' proxy mode. A header names the vendor's URL that is meant; it is served from here.

No request is passed on: the vendor's hosts stand for prefixes of this application, as its own virtual hosts do.
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
    "description": f"The URL that is meant, at one of the hosts {', '.join(PREFIXES)}.",
    "schema": {"type": "string", "format": "uri"},
}


class ClientProxy:
    """Gives a request the path and the query of its target; all else of it stays, so the reply is the target's own.

    Outside of the keys: what counts is whether the target wants one. A request without a target of ours goes on as it
    is, to the route that says so.
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


def proxy_router() -> APIRouter:
    """The route of those requests whose target is nothing of ours; its description is that of the others, too."""
    router = APIRouter(tags=["proxy"])
    for method in ("GET", "POST", "PUT"):
        router.add_api_route(
            CLIENT_PROXY,
            _refuse,
            methods=[method],
            operation_id=f"proxy_{method.lower()}",
            summary="Ask for a URL of the vendor's",
            response_class=Response,
            responses={
                200: {"description": "The reply of the target."},
                "default": {"description": "The reply of the target, or 400 when there is no such target."},
            },
            openapi_extra={"parameters": [TARGET_PARAMETER]},
        )
    return router


async def _refuse(request: Request) -> Response:
    """The method, the body and all headers are the target's."""
    hosts = ", ".join(f"https://{host}/" for host in PREFIXES)
    if TARGET not in request.headers:
        raise BadRequest(f"The header {TARGET} is missing: name the URL that is meant, below {hosts}.")
    raise BadRequest(f"The header {TARGET} names no URL that can be asked for here: use one below {hosts}.")


def _target(scope: Scope) -> tuple[str, str] | None:
    """Path, still quoted, and query in this application of the URL that is meant; None when it is none of ours."""
    header = next((value for name, value in scope["headers"] if name == TARGET.encode()), b"")
    try:
        parts = urlsplit(header.decode("ascii"))
    except ValueError:
        return None
    # The authority as a whole: with a port or a user it is another one.
    prefix = PREFIXES.get(parts.netloc.lower()) if parts.scheme == "https" else None
    return None if prefix is None else (prefix + parts.path, parts.query)
