"""`/api/openapi/queue/openapi.json`: the endpoint's queue as the vendor describes it, in OpenAPI 3.0.

OpenAPI 3.0 has neither the type `null` nor `examples` or `const` in a schema, and allows nothing beside a reference, so
the models' schemas are converted.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve_app.api.endpoint_id import PARAMETER, UNKNOWN, unknown_endpoint
from serve_app.api.openapi import TEMPLATE, error_replies
from serve_app.api.queue_schema import CancelAccepted, QueueStatus
from serve_app.api.schema import VideoInput, VideoOutput
from serve_app.api.services import Services
from serve_app.api.urls import base_url
from serve_app.fal import ENDPOINT, ENDPOINT_ID, QUEUE, QUEUE_OPENAPI

MODELS: tuple[type[BaseModel], ...] = (QueueStatus, VideoInput, VideoOutput, CancelAccepted)
REFERENCE = TEMPLATE.format(model="")

Json = dict[str, Any]


def openapi_router(services: Services) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get(
        QUEUE_OPENAPI,
        operation_id="queue_openapi",
        summary="OpenAPI document of the queue, in the vendor's form",
        responses={
            200: {
                "description": "An OpenAPI 3.0 document.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **error_replies(400),
            **UNKNOWN,
        },
        openapi_extra={"parameters": [PARAMETER]},
    )
    async def queue_openapi(request: Request) -> Response:
        return unknown_endpoint(request) or JSONResponse(
            document(base_url(request, QUEUE, services.public_url))
        )

    return router


def document(queue_url: str) -> Json:
    """Returns the document for clients that reach the queue at `queue_url`."""
    of_request = f"{ENDPOINT}/requests/{{request_id}}"
    text = {"type": "string", "description": "Request ID"}
    request_id = {"name": "request_id", "in": "path", "required": True, "schema": text}
    logs = {
        "name": "logs",
        "in": "query",
        "required": False,
        "schema": {"type": "number", "description": "Whether to include logs (`1`) or not (`0`)."},
    }
    status = _content(QueueStatus)
    return {
        "openapi": "3.0.4",
        "info": {
            "title": f"Queue OpenAPI for {ENDPOINT_ID}",
            "version": "1.0.0",
            "description": f"The OpenAPI schema for the {ENDPOINT_ID} queue.",
            "x-fal-metadata": {"endpointId": ENDPOINT_ID, "category": "video-to-video"},
        },
        "components": {
            "securitySchemes": {
                "apiKeyAuth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "Key <id>:<secret>",
                }
            },
            "schemas": schemas(),
        },
        "paths": {
            f"{of_request}/status": {
                "get": {
                    "parameters": [request_id, logs],
                    "responses": {
                        "200": {"description": "The request has ended.", **status},
                        "202": {"description": "The request is queued or running.", **status},
                    },
                }
            },
            f"{of_request}/cancel": {
                "put": {
                    "parameters": [request_id],
                    "responses": {
                        "202": {"description": "The request was cancelled.", **_content(CancelAccepted)}
                    },
                }
            },
            ENDPOINT: {
                "post": {
                    "requestBody": {"required": True, **_content(VideoInput)},
                    "responses": {"200": {"description": "The request status.", **status}},
                }
            },
            of_request: {
                "get": {
                    "parameters": [request_id],
                    "responses": {"200": {"description": "Result of the request.", **_content(VideoOutput)}},
                }
            },
        },
        "servers": [{"url": queue_url}],
        "security": [{"apiKeyAuth": []}],
    }


def schemas() -> Json:
    """Returns the schemas of all models and of everything they refer to, by title."""
    _, generated = models_json_schema([(model, "validation") for model in MODELS], ref_template=TEMPLATE)
    definitions = generated["$defs"]
    found = {
        schema["title"]: _in_3_0(schema, definitions)
        for schema in definitions.values()
        if "enum" not in schema
    }
    # The only fields that the vendor promises.
    found["QueueStatus"]["required"] = ["status", "request_id"]
    return found


def _content(model: type[BaseModel]) -> Json:
    schema = {"$ref": TEMPLATE.format(model=model.model_json_schema()["title"])}
    return {"content": {"application/json": {"schema": schema}}}


def _in_3_0(schema: Json, definitions: Json) -> Json:
    """Converts a pydantic schema, whose references are in `definitions`, to OpenAPI 3.0."""
    converted = dict(schema)
    if converted.get("default", "") is None:
        del converted["default"]  # means that the field is left out
    if "examples" in converted:
        converted["example"] = converted.pop("examples")[0]
    if "const" in converted:
        converted["enum"] = [converted.pop("const")]
    if "items" in converted:
        converted["items"] = _in_3_0(converted["items"], definitions)
    if "anyOf" in converted:
        converted["anyOf"] = _alternatives(converted["anyOf"], definitions)
    if "properties" in converted:
        converted["x-fal-order-properties"] = list(converted["properties"])
        converted["properties"] = {
            name: _in_3_0(value, definitions) for name, value in converted["properties"].items()
        }
    if "$ref" in converted:
        named = definitions[converted.pop("$ref").removeprefix(REFERENCE)]
        if "enum" in named:
            return {"type": named["type"], "enum": named["enum"]} | converted
        reference = {"$ref": REFERENCE + named["title"]}
        return {"allOf": [reference], **converted} if converted else reference
    return converted


def _alternatives(kinds: list[Json], definitions: Json) -> list[Json]:
    """Replaces the type `null` by `nullable`. A reference cannot be nullable: such a field is left out instead."""
    others = [_in_3_0(kind, definitions) for kind in kinds if kind != {"type": "null"}]
    if len(others) == len(kinds):
        return others
    return [kind if "$ref" in kind else kind | {"nullable": True} for kind in others]
