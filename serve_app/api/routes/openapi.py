"""`/api/openapi/queue/openapi.json`: the queue of the endpoint as the vendor describes it, for tools that read that.

OpenAPI 3.0 knows neither a type `null` nor `examples` or `const` in a schema, nor anything beside a reference: what
the models say is put into its words.
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
        summary="The queue in the vendor's form of OpenAPI",
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
    """The document for clients that reach the queue at `queue_url`."""
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
                        "200": {"description": "The request is over.", **status},
                        "202": {"description": "The request waits or runs.", **status},
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
    """All models and what they refer to, by their titles."""
    _, made = models_json_schema([(model, "validation") for model in MODELS], ref_template=TEMPLATE)
    plain = made["$defs"]
    found = {schema["title"]: _in_3_0(schema, plain) for schema in plain.values() if "enum" not in schema}
    # Of all that a status has, the vendor promises this.
    found["QueueStatus"]["required"] = ["status", "request_id"]
    return found


def _content(model: type[BaseModel]) -> Json:
    schema = {"$ref": TEMPLATE.format(model=model.model_json_schema()["title"])}
    return {"content": {"application/json": {"schema": schema}}}


def _in_3_0(schema: Json, plain: Json) -> Json:
    """A schema of pydantic's, which refers to others in `plain`, in the words of OpenAPI 3.0."""
    said = dict(schema)
    if said.get("default", "") is None:
        del said["default"]  # left out is what it means
    if "examples" in said:
        said["example"] = said.pop("examples")[0]
    if "const" in said:
        said["enum"] = [said.pop("const")]
    if "items" in said:
        said["items"] = _in_3_0(said["items"], plain)
    if "anyOf" in said:
        said["anyOf"] = _alternatives(said["anyOf"], plain)
    if "properties" in said:
        said["x-fal-order-properties"] = list(said["properties"])
        said["properties"] = {name: _in_3_0(value, plain) for name, value in said["properties"].items()}
    if "$ref" in said:
        named = plain[said.pop("$ref").removeprefix(REFERENCE)]
        if "enum" in named:
            return {"type": named["type"], "enum": named["enum"]} | said
        refers = {"$ref": REFERENCE + named["title"]}
        return {"allOf": [refers], **said} if said else refers
    return said


def _alternatives(kinds: list[Json], plain: Json) -> list[Json]:
    """Without the type `null`. Only a type can be nullable, a reference cannot: such a field is left out instead."""
    others = [_in_3_0(kind, plain) for kind in kinds if kind != {"type": "null"}]
    if len(others) == len(kinds):
        return others
    return [kind if "$ref" in kind else kind | {"nullable": True} for kind in others]
