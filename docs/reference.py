"""Writes docs/9-api-reference.md from the code: routes, inputs, commands, functions, settings (`make docs`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

import serve_app
from docs.tables import default_of, described, models_in, settings_section, table, type_of, value_of
from serve_app.accounts.quotas import Quotas
from serve_app.api.app import make_app
from serve_app.api.schema import VideoInput, VideoOutput
from serve_app.api.services import Services
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.cli.common import PROGRAM
from serve_app.cli.main import app as command_line
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import Settings
from serve_app.webhooks.signing_keys import KeyFile

PAGE = Path(__file__).parent / "9-api-reference.md"
HEAD = """# Reference

Written from the code by `make docs`; do not edit it here. What stands behind it:
[3-queue-and-api.md](3-queue-and-api.md) for the API, [2-clients.md](2-clients.md) for clients and functions,
[4-operations.md](4-operations.md) for settings.

* [HTTP routes](#http-routes), [inputs](#inputs) and [output](#output)
* [Command line](#command-line)
* [Python](#python)
* [Settings](#settings)
"""


def page() -> str:
    sections = (HEAD, *_routes(), *_schemas(), *_commands(), *_functions(), *settings_section())
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


class _NoRunner:
    """The document is made without a runner to notify."""

    def wake(self) -> None: ...

    def cancel(self, job_id: str) -> None: ...


def _routes() -> Iterator[str]:
    """The routes of the document that the service serves at `/openapi.json`."""
    settings = Settings()
    with TemporaryDirectory() as name:
        directory = Path(name)
        services = Services(
            SqlJobStore(f"sqlite:///{directory / 'jobs.sqlite'}"),
            Artifacts(directory / "artifacts"),
            _NoRunner(),
            FileUrls(settings.files.port, FileLinks(Signer(b"k" * 32))),
            KeyFile(directory / "keys.json"),
            verifier=None,
            public_url=None,
            limits=settings.ingress,
            quotas=Quotas(settings.quotas),
            uploads=settings.uploads,
        )
        document = make_app(services).openapi()
    rows = []
    for path, item in document["paths"].items():
        for method, route in item.items():
            statuses = ", ".join(sorted(map(str, route["responses"])))
            rows.append((method.upper(), f"`{path}`", route.get("summary", ""), statuses))
    yield "## HTTP routes"
    yield (
        "The same as an OpenAPI document: `/openapi.json` of a running service, and `/docs` to browse it. Errors are "
        "in [3-queue-and-api.md](3-queue-and-api.md#errors)."
    )
    yield table(("method", "path", "what it does", "replies"), rows)


def _schemas() -> Iterator[str]:
    yield "### Inputs"
    yield _fields(VideoInput)
    yield "### Output"
    yield _fields(VideoOutput)
    for model in _models(VideoOutput):
        yield f"`{model.model_json_schema()['title']}`:"
        yield _fields(model)


def _fields(model: type[BaseModel]) -> str:
    rows = [
        (f"`{field.alias or name}`", type_of(field.annotation), default_of(field), field.description or "")
        for name, field in model.model_fields.items()
    ]
    return table(("name", "values", "default", "meaning"), rows)


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models that its fields refer to, each once."""
    found = [kind for field in model.model_fields.values() for kind in models_in(field.annotation)]
    return list(dict.fromkeys(found))


def _commands() -> Iterator[str]:
    yield "## Command line"
    yield f"`{PROGRAM} --install-completion` installs completion for the current shell."
    yield from _group(get_command(command_line), ())


def _group(group: Any, words: tuple[str, ...]) -> Iterator[str]:
    for name, command in group.commands.items():
        path = (*words, name)
        if isinstance(command, TyperGroup):
            yield from _group(command, path)
            continue
        yield f"### {' '.join(path)}"
        yield inspect.cleandoc(command.help)
        rows = [row for parameter in command.params if (row := _parameter(parameter))]
        if rows:
            yield table(("argument", "values", "default", "meaning"), rows)
        lines = [line for line in command.epilog.split("\n\n") if line.startswith(PROGRAM)]
        yield "```text\n" + "\n".join(lines) + "\n```"


def _parameter(parameter: Any) -> tuple[str, str, str, str] | None:
    if parameter.name == "help":
        return None
    is_argument = parameter.param_type_name == "argument"
    name = parameter.metavar if is_argument else ", ".join(parameter.opts)
    annotation = parameter.type_descriptor.annotation
    kind = "" if annotation is bool else type_of(annotation).removesuffix(" or none")
    default = "required" if parameter.required else value_of(parameter.default or None)
    meaning = parameter.help + (f" Environment: `{parameter.envvar}`." if parameter.envvar else "")
    return f"`{name}`", kind, default, meaning


def _functions() -> Iterator[str]:
    yield "## Python"
    for name in serve_app.__all__:
        found = getattr(serve_app, name)
        head = f"class {name}" if inspect.isclass(found) else _signature(found)
        yield f"### {name}"
        yield f"```text\n{head}\n```"
        yield _prose(found)


def _signature(function: Any) -> str:
    signature, lines = inspect.signature(function), []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        text = f"{parameter.name}: {parameter.annotation}"
        if (default := parameter.default) is not inspect.Parameter.empty:
            text += f" = {(default.value if isinstance(default, Enum) else default)!r}"
        lines.append(text)
    inside = "".join(f"    {line},\n" for line in lines)
    return f"{function.__name__}(\n{inside}) -> {signature.return_annotation}"


def _prose(found: Any) -> str:
    """The docstring, with what it says of fields as a list."""
    text, fields = described(found)
    return "\n\n".join([text, *(["\n".join(f"* `{n}`: {m}" for n, m in fields.items())] if fields else [])])


if __name__ == "__main__":
    PAGE.write_text(page())
