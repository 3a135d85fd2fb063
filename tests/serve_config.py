"""Strictness that Serve's own schema lacks: it passes over keys that it does not know."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def unknown_keys(model: type[BaseModel], data: Any, at: str = "") -> list[str]:
    """Keys that `model` would pass over in silence, with their places; free-form fields are left alone."""
    found = []
    fields = dict(model.model_fields)
    fields |= {field.alias: field for field in model.model_fields.values() if field.alias}
    for key, value in data.items():
        if key not in fields:
            found.append(f"{at}{key}")
            continue
        for inner in _models(fields[key].annotation):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    found += unknown_keys(inner, item, f"{at}{key}.")
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models named anywhere in an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)
