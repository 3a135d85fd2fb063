"""The deployment class of the API, without a cluster: construction, application, and hints to the runner."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.api.ingress import HandleNotifier, Ingress
from serve_app.database.migrate import migrate
from serve_app.settings import FilesSettings, IngressSettings, Settings
from tests.replicas import replica_class, started

Replica = replica_class(Ingress).__mro__[1]  # below Serve's wrapper, which needs a cluster


class Handle:
    """Records calls as Serve's handle would make them; `broken` fails like one without a router."""

    def __init__(self, broken: bool = False) -> None:
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        self._broken = broken

    def __getattr__(self, method: str) -> Any:
        handle = self

        class Method:
            def remote(self, *arguments: str) -> None:
                if handle._broken:
                    raise RuntimeError("no router")
                handle.sent.append((method, arguments))

        return Method()


async def test_it_serves_from_its_own_table(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        public_url="https://fal.example",
        ingress=IngressSettings(max_waiting=7),
        files=FilesSettings(port=9999, public_url="https://cdn.example"),
    )
    migrate(settings.database_url)
    replica = await started(Replica, settings, Handle(), Handle())
    try:
        app = replica.__serve_build_asgi_app__()
        assert replica._services.limits.max_waiting == 7
        assert replica._services.public_url == "https://fal.example"
        assert replica._services.urls.public_url == "https://cdn.example"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            reply = await client.get("/health")
        assert reply.status_code == 200 and reply.headers["x-fal-request-id"]
    finally:
        await Replica.__del__(replica)


def test_hints_go_to_the_runner() -> None:
    handle = Handle()
    notifier = HandleNotifier(handle)
    notifier.wake()
    notifier.cancel("id")
    assert handle.sent == [("wake", ()), ("cancel", ("id",))]


def test_a_lost_hint_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    HandleNotifier(Handle(broken=True)).wake()
    assert "could not notify the runner: wake" in caplog.text


def test_the_deployment_can_be_shipped() -> None:
    deployment: Any = Ingress
    assert deployment.name == "Ingress" and deployment.max_ongoing_requests == 10_000
    assert pickle.loads(pickle.dumps(Settings())) == Settings()
