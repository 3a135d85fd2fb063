"""`/`: the playground, a page that uses the service as any client does.

Its policy allows this origin and the one of the files, and nothing else: no inline script, no other host, no frame.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve_app.api.playground import CONTENTS, PAGE
from serve_app.api.services import Services
from serve_app.jobs.names import outputs_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: {files}; "
    "img-src 'self' blob: data: {files}; media-src 'self' blob: data: {files}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def playground_router(services: Services) -> APIRouter:
    """Routes of the page and its files. They are no part of the API, so its OpenAPI document leaves them out."""
    router = APIRouter(include_in_schema=False)
    urls = services.urls

    def policy(request: Request) -> str:
        """Uploads and results are at the file server, unless a bucket serves the results itself."""
        addresses = (urls.base(request), urls.of(outputs_of("any") + "/output.webm", request))
        return POLICY.format(files=" ".join(sorted({_origin(address) for address in addresses})))

    async def file(request: Request) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        body, kind = CONTENTS[path]
        headers = dict(HEADERS)
        if path == PAGE:  # signing a bucket's URL may first have to fetch credentials
            headers["Content-Security-Policy"] = await asyncio.to_thread(policy, request)
        return Response(body, media_type=kind, headers=headers)

    for path in CONTENTS:
        router.add_api_route(path, file, methods=["GET", "HEAD"])
    return router


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
