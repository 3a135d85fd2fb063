"""OpenAPI for the bodies, headers and replies that handlers read and write themselves.

FastAPI would negotiate content types, which the contract ignores.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve_app.api.queue_schema import NotFound
from serve_app.api.replies import ModelError, RequestError

TEMPLATE = "#/components/schemas/{model}"

REQUEST_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}
LOGS = {
    "name": "logs",
    "in": "query",
    "required": False,
    "description": "`true` or `1` includes the log.",
    "schema": {"type": "string", "enum": ["true", "false", "1", "0"]},
}

ERRORS: dict[int, tuple[Any, str]] = {
    400: (RequestError, "Invalid header or query, or the request is not finished yet."),
    404: (NotFound, "Unknown or expired."),
    422: (ModelError | RequestError, "The input cannot be used."),
    429: (RequestError, "Too many requests are waiting."),
    499: (RequestError, "The request was cancelled."),
    500: (ModelError | RequestError, "Processing failed."),
    503: (RequestError, "No capacity."),
    504: (ModelError | RequestError, "Not started or not finished in time."),
}


def error_replies(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that can fail with `statuses`; any route can fail with 500."""
    return {status: response(*ERRORS[status]) for status in (*statuses, 500)}


def response(model: Any, description: str) -> dict[str, Any]:
    return {"model": model, "description": description}


def body_of(model: type[BaseModel], *parameters: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is `model`; the schema itself comes from `describe_bodies`."""
    content = {"application/json": {"schema": reference(model)}}
    return {"requestBody": {"required": True, "content": content}, "parameters": list(parameters)}


def events_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a server-sent event whose data is `model`."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": reference(model)}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": TEMPLATE.format(model=model.__name__)}


def describe_bodies(app: FastAPI, *models: type[BaseModel]) -> None:
    """Adds the schemas of `models`, and of all models that these refer to, to the document of `app`."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, bodies = models_json_schema([(model, "validation") for model in models], ref_template=TEMPLATE)
        components = document.setdefault("components", {}).setdefault("schemas", {})
        components.update(bodies.get("$defs", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it
