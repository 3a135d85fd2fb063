"""Parsing and validation of JSON from clients, with one error shape for the API and the file server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from serve_app.errors import DOCS, WireError

Model = TypeVar("Model", bound=BaseModel)

MAX_URI_CHARS = 1024  # longer data URIs are shortened
URI_PREFIX_CHARS = 64  # what remains of a shortened one
MAX_STORED_BYTES = 64 << 10  # of JSON; it is loaded with every read of the row

# The vendor's framework declares enums as literals, so its error type is that of a literal.
TYPE_NAMES = {"enum": "literal_error"}


class InvalidInput(Exception):
    """The body violates the schema; `details` has one item for each invalid field."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__(details)
        self.details = details

    @property
    def wire(self) -> WireError:
        return WireError(422, {"detail": self.details}, {})


def parse_json(body: bytes) -> Any:
    """Parses `body` as JSON, whatever its Content-Type. Raises `InvalidInput`."""
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(
            [_item("json_invalid", "JSON decode error", (), {}, {"error": str(error)})]
        ) from error


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses `body` as a JSON object, whatever its Content-Type. Raises `InvalidInput`."""
    data = parse_json(body)
    if not isinstance(data, dict):
        raise InvalidInput([_item("dict_type", "Input should be a valid dictionary", (), data)])
    return data


def validated(model: type[Model], data: Any) -> Model:
    """Validates parsed JSON as `model`. Raises `InvalidInput`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False)
        items = [_item(e["type"], e["msg"], e["loc"], e["input"], e.get("ctx")) for e in found]
        raise InvalidInput(items) from error


def storable(value: Any) -> Any:
    """Returns `value` as JSON that the job table can store, or None if it is larger than `MAX_STORED_BYTES`.

    Long data URIs are shortened, infinities (1e999 is valid JSON) become null, and U+0000 (which Postgres accepts but
    cannot read back) is replaced.
    """
    text = pydantic_core.to_json(_shortened(value), inf_nan_mode="null")
    return pydantic_core.from_json(text) if len(text) <= MAX_STORED_BYTES else None


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > MAX_URI_CHARS and value[:5].lower() == "data:":
            value = f"{value[:URI_PREFIX_CHARS]}…({len(value.encode())} bytes)"
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
        "input": storable(value),
    }
    if context:
        item["ctx"] = context
    return item | {"url": DOCS + kind}
