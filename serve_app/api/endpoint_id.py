"""The query parameter `endpoint_id`; this service has one endpoint."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from starlette.requests import Request

from serve_app.api.openapi import response
from serve_app.api.replies import RequestError
from serve_app.errors import BadRequest
from serve_app.fal import ENDPOINT_ID

PARAMETER = {
    "name": "endpoint_id",
    "in": "query",
    "required": True,
    "description": "The endpoint; this service has one.",
    "schema": {"type": "string", "enum": [ENDPOINT_ID]},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: response(RequestError, "Unknown endpoint.")}


def unknown_endpoint(request: Request) -> JSONResponse | None:
    """Returns the 404 reply unless one of the endpoints named is this service's.

    Raises `BadRequest` if none is named.
    """
    named = [name for names in request.query_params.getlist("endpoint_id") for name in names.split(",")]
    if not any(named):
        raise BadRequest(f"endpoint_id is missing: use endpoint_id={ENDPOINT_ID}.")
    if ENDPOINT_ID in named:
        return None
    return JSONResponse({"detail": f"Endpoint {', '.join(named)[:200]} not found. Use {ENDPOINT_ID}."}, 404)
