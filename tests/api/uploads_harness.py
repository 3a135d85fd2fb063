"""The storage routes of the API and a file server, each on its own port."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio
from fastapi import FastAPI

from serve_app.api.middleware.request_id import RequestId
from serve_app.api.replies import install_error_handlers
from serve_app.api.routes.uploads import StorageRoutes
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.links import FileLinks
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.settings import UploadSettings
from tests.api.harness import SIGNER, services

LIMITS = UploadSettings(max_bytes=2_000_000, lifetime_s=1000.0)
DATA = os.urandom(400_000)


class Accounts:
    """Uses the Authorization header as the account's name."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        account = dict(scope["headers"]).get(b"authorization")
        scope.setdefault("state", {})["account"] = account.decode() if account else None
        await self.app(scope, receive, send)


@dataclass
class Service:
    """`rest` and `files` are the base URLs; `client` is bound to the first."""

    rest: str
    files: str
    urls: FileUrls
    artifacts: Artifacts
    client: httpx.AsyncClient

    def names(self) -> list[str]:
        root = self.artifacts.root
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def name_of(self, url: str) -> str:
        name = SIGNER.name_in(url)
        assert name is not None
        return name


@pytest_asyncio.fixture(name="service")
async def service_fixture(store: SqlJobStore, artifacts: Artifacts) -> AsyncIterator[Service]:
    files = HttpServer(make_files_app(artifacts, SIGNER, LIMITS), "127.0.0.1", 0, drain_s=1)
    urls = FileUrls(files.port, FileLinks(SIGNER))
    app = FastAPI(redirect_slashes=False)
    install_error_handlers(app)
    app.include_router(StorageRoutes(services(store, artifacts, urls=urls, uploads=LIMITS)).router())
    app.add_middleware(Accounts)
    app.add_middleware(RequestId)
    rest = HttpServer(app, "127.0.0.1", 0, drain_s=1)
    await files.start()
    await rest.start()
    base = f"http://127.0.0.1:{rest.port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        yield Service(base, f"http://127.0.0.1:{files.port}", urls, artifacts, client)
    await rest.stop()
    await files.stop()
