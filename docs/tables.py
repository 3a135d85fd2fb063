"""Tables of the reference page: pydantic models with types and defaults, and the tree of settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serve_app.settings import Settings
from serve_app.settings.part import Part

WORDS = {
    "str": "text",
    "SecretStr": "text",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "Path": "path",
    "IPvAnyNetwork": "network",
    "NoneType": "none",
}


def settings_section() -> Iterator[str]:
    yield "## Settings"
    yield (
        "The `args` of a profile under `config/`, which may set others than these defaults. The environment takes "
        "precedence: `BIREFNET_FILES__PORT=9000` sets `files.port`."
    )
    head = ("setting", "values", "default", "meaning")
    yield table(head, _rows(Settings, None, ""))
    for name, field in Settings.model_fields.items():
        for model in models_in(field.annotation):
            yield f"### {name}"
            yield "\n\n".join(described(kind)[0] for kind in _family(model))
            yield table(head, _rows(model, field.default, f"{name}."))


def _rows(
    model: type[BaseModel], values: BaseModel | None, prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    """The settings of a branch and of those below it, with `values` as defaults, or else the class's. Those below the
    root have tables of their own."""
    comments = _comments(model)
    for name, field in model.model_fields.items():
        if models := models_in(field.annotation):
            if prefix:
                yield from _rows(models[0], getattr(values, name), f"{prefix}{name}.")
        elif get_origin(field.annotation) is dict:
            yield f"`{prefix}{name}`", "by model, the keys of [segmenter](#segmenter)", "", ""
        else:
            default = default_of(field) if values is None else value_of(getattr(values, name))
            yield f"`{prefix}{name}`", type_of(field.annotation), default, comments.get(name, "")


def _family(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and those that it inherits fields from, if they say what they are."""
    kinds = (kind for kind in model.__mro__ if kind.__module__.startswith("serve_app.") and kind is not Part)
    return [kind for kind in kinds if issubclass(kind, BaseModel)]


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings say of the fields, and the comments behind these."""
    found: dict[str, str] = {}
    for kind in _family(model):
        found |= described(kind)[1]
        found |= dict(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(kind), flags=re.M))
    return found


def described(found: Any) -> tuple[str, dict[str, str]]:
    """A docstring without the paragraphs "name: meaning", and these by name."""
    prose, fields, name = [], dict[str, str](), ""
    for line in (inspect.cleandoc(found.__doc__ or "")).splitlines():
        if entry := re.match(r"(\w+(?:, \w+)*): (.+)", line):
            name, line = entry[1], entry[2]
        elif not line:
            name = ""
        if name:
            fields[name] = f"{fields.get(name, '')} {line}".strip()
        else:
            prose.append(line)
    return "\n".join(prose).strip(), fields


def type_of(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{item.value}`" for item in annotation)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(type_of(part) for part in get_args(annotation))
    if str(get_origin(annotation)) == "typing.Literal":
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel):
            return f"`{annotation.model_json_schema()['title']}`"
        return WORDS[annotation.__name__]
    if get_origin(annotation) in (tuple, list):
        return f"list of {type_of(get_args(annotation)[0])}"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return type_of(annotation.__origin__)
    return "mapping" if get_origin(annotation) is dict else str(annotation)


def default_of(field: FieldInfo) -> str:
    return "required" if field.is_required() else value_of(field.get_default(call_default_factory=True))


def value_of(value: Any) -> str:
    if value is None or value == () or value == {}:
        return ""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = f"~/{value.relative_to(Path.home())}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType):
        return [found for part in get_args(annotation) for found in models_in(part)]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation] if is_model else []


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in line)} |"
        for line in lines
    )
