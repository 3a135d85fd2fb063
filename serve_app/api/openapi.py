"""OpenAPI for bodies that the handlers parse themselves (they ignore the Content-Type; FastAPI does not)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

TEMPLATE = "#/components/schemas/{model}"


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is `model`; the schema itself comes from `describe_bodies`."""
    schema = {"$ref": TEMPLATE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI, *models: type[BaseModel]) -> None:
    """Add the schemas of `models`, and of what they refer to, to the document of `app`."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        _, bodies = models_json_schema([(model, "validation") for model in models], ref_template=TEMPLATE)
        components = document.setdefault("components", {}).setdefault("schemas", {})
        components.update(bodies.get("$defs", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
