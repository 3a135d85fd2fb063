"""Error replies in the two shapes of the wire.

`serve_app.errors` maps the service's own errors. This module adds those of HTTP: invalid bodies, unknown paths and
methods, and bugs.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.errors import ServiceError, WireError, to_wire
from serve_app.parsing import InvalidInput

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class ModelErrorItem(BaseModel):
    """An error in one field."""

    loc: list[str] = Field(examples=[["body", "video_url"]])
    msg: str
    type: str
    url: str
    input: Any = None
    ctx: dict[str, Any] | None = None


class ModelError(BaseModel):
    """The input is invalid, or the model failed on it."""

    detail: list[ModelErrorItem]


class RequestError(BaseModel):
    """The request failed outside the model."""

    detail: str
    error_type: str | None = None


def reply(error: WireError) -> JSONResponse:
    """The HTTP reply for an error, as stored in the job table."""
    return JSONResponse(error.body, error.status, error.headers)


def unexpected(error: Exception) -> JSONResponse:
    """Logs a bug and returns a reply without its details."""
    logger.error("unexpected error", exc_info=error)
    return reply(to_wire(ServiceError("Internal server error. The service's log has the details.")))


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error raised by a handler of `app` a reply in one of the wire's shapes."""

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, InvalidInput)
        return reply(error.wire)

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return reply(to_wire(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = f"Path {request.url.path} not found" if error.status_code == 404 else error.detail
        return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)

    app.add_exception_handler(InvalidInput, on_invalid)
    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http)
