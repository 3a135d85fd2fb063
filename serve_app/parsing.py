"""JSON that clients send: parsed, validated, and refused in one shape, by the API and by the file server alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from serve_app.errors import DOCS, WireError

Model = TypeVar("Model", bound=BaseModel)

LONGEST_URI = 1024  # characters of a data URI that are kept whole
HEAD = 64  # characters that remain of a longer one
LARGEST = 64 << 10  # bytes of JSON; readers load them with every look at the row

# The vendor's framework declares its enums as literals, and names the error so.
TYPE_NAMES = {"enum": "literal_error"}


class InvalidInput(Exception):
    """The body breaks the schema; `details` has one item for each field that does."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__(details)
        self.details = details

    @property
    def wire(self) -> WireError:
        return WireError(422, {"detail": self.details}, {})


def parse_json(body: bytes) -> Any:
    """The JSON in `body`, whatever the Content-Type says; `InvalidInput` otherwise."""
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(
            [_item("json_invalid", "JSON decode error", (), {}, {"error": str(error)})]
        ) from error


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, whatever the Content-Type says; `InvalidInput` otherwise."""
    data = parse_json(body)
    if not isinstance(data, dict):
        raise InvalidInput([_item("dict_type", "Input should be a valid dictionary", (), data)])
    return data


def validated(model: type[Model], data: Any) -> Model:
    """The `model` in parsed JSON; `InvalidInput` otherwise."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        items = [_item(e["type"], e["msg"], e["loc"], e["input"], e.get("ctx")) for e in found]
        raise InvalidInput(items) from error


def keepable(value: Any) -> Any:
    """JSON that the job table can hold: long data URIs cut, infinities (1e999 is valid JSON) null, U+0000 (which
    Postgres takes and cannot read) replaced; None when it is still too large.
    """
    text = pydantic_core.to_json(_shortened(value), inf_nan_mode="null")
    return pydantic_core.from_json(text) if len(text) <= LARGEST else None


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST_URI and value[:5].lower() == "data:":
            value = f"{value[:HEAD]}…({len(value.encode())} bytes)"
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_shortened(key): _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list) else value


def _item(
    kind: str, message: str, field: Sequence[str | int], value: Any, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    kind = TYPE_NAMES.get(kind, kind)
    item: dict[str, Any] = {
        "type": kind,
        "loc": ["body", *map(str, field)],
        "msg": message,
        "input": keepable(value),
    }
    if context:
        item["ctx"] = context
    return item | {"url": DOCS + kind}
