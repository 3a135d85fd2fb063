"""Which clients are tried, in which versions, and how each is installed and started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

FUNCTIONS = {
    "run": "run",
    "subscribe": "subscribe",
    "queue": "submit, status, result",
    "events": "status events",
    "cancel": "cancel",
    "error": "error for wrong input",
    "upload": "upload",
    "large_upload": "upload of 101 MiB",
}


@dataclass(frozen=True)
class Client:
    """A row of the table. `driver`: the program that tries it. `runtime`: node, python, chromium or a proxy's name."""

    label: str
    packages: tuple[str, ...]
    runtime: str
    driver: str
    functions: tuple[str, ...] = tuple(FUNCTIONS)
    environment: Mapping[str, str] = field(default_factory=dict)
    npm_options: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name of its directory: clients of the same packages share one."""
        return re.sub(r"[^a-z0-9.]+", "-", " ".join(self.packages)).strip("-")


def _official(package: str, versions: list[str]) -> list[Client]:
    return [
        Client(f"`{package}` {version}, Node", (f"{package}@{version}",), "node", "node.mjs",
               environment={"PACKAGE": package})
        for version in versions
    ]  # fmt: skip


def _browser(version: str) -> Client:
    packages = (f"@fal-ai/client@{version}", "esbuild@0.25")
    return Client(
        f"`@fal-ai/client` {version}, Chromium, page of another origin", packages, "chromium", "browser.mjs"
    )


def _python(version: str) -> Client:
    return Client(f"`fal-client` {version}", (f"fal-client=={version}",), "python", "fal_client_functions.py")


def _sdk(repository: str) -> Client:
    label = f"`fal` 1.83.0 (SDK), uploads to its repository `{repository}`"
    environment = {"REPOSITORY": repository}
    return Client(label, ("fal==1.83.0",), "python", "fal_sdk_functions.py", environment=environment)


def _ai_sdk(note: str, environment: Mapping[str, str]) -> Client:
    packages = ("ai@6.0.326", "@ai-sdk/fal@2.0.59")
    label = f"`@ai-sdk/fal` 2.0.59, `generateVideo`{note}"
    return Client(label, packages, "node", "ai_sdk.mjs", ("subscribe",), environment)


def _proxy(runtime: str, *packages: str) -> Client:
    """The newest official client, through a proxy."""
    needed = ("@fal-ai/client@1.10.1", "@fal-ai/server-proxy@1.2.1", *packages)
    return Client(runtime, needed, runtime, "node.mjs", environment={"PACKAGE": "@fal-ai/client"})


CLIENTS = [
    *_official("@fal-ai/client", ["1.0.2", "1.2.3", "1.4.0", "1.6.2", "1.8.4", "1.9.6", "1.10.1"]),
    *(_browser(version) for version in ("1.0.2", "1.6.2", "1.10.1")),
    *_official("@fal-ai/serverless-client", ["0.9.3", "0.15.0"]),
    *(_python(version) for version in ("0.5.0", "0.5.9", "0.6.0", "0.8.1", "0.10.0", "0.13.2", "1.0.3")),
    *(_sdk(repository) for repository in ("fal", "fal_v3", "cdn")),
    Client(
        "`@tanstack/ai-fal` 0.10.1",
        ("@tanstack/ai-fal@0.10.1", "@tanstack/ai", "zod"),
        "node",
        "tanstack.mjs",
        ("queue",),
        npm_options=("--legacy-peer-deps",),
    ),
    _ai_sdk("", {}),
    _ai_sdk(" with its option `download`", {"DOWNLOAD": "own"}),
]

PROXIES = [
    _proxy("express", "express@4"),
    _proxy("hono", "hono@4", "@hono/node-server@1"),
    _proxy("next, app router", "next@15", "react@19", "react-dom@19"),
    _proxy("next, pages router", "next@15", "react@19", "react-dom@19"),
]
