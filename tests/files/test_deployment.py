"""The file server's deployment class, without a cluster."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from serve_app.artifacts.store import Artifacts
from serve_app.files.deployment import FileServer
from serve_app.files.http_server import HttpServer
from serve_app.files.signing import Signer
from serve_app.local.profile import free_port
from serve_app.settings import Settings
from tests.replicas import replica_class, started

Replica = replica_class(FileServer)


async def test_a_replica_serves_reports_its_health_and_stops(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, files={"port": free_port(), "drain_s": 1})
    Artifacts(settings.artifacts_url).put_bytes("outputs/1/v.mp4", b"video")
    replica = await started(Replica, settings)
    path = Signer.load(None, tmp_path).file_path("outputs/1/v.mp4")
    url = f"http://127.0.0.1:{await replica.port()}{path}"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).content == b"video"
        await replica.check_health()

        await Replica.__del__(replica)
        with pytest.raises(RuntimeError, match="has stopped"):
            await replica.check_health()
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_with_an_upstream_it_relays_all_other_requests(tmp_path: Path) -> None:
    api = HttpServer(PlainTextResponse("the API"), "127.0.0.1", 0, drain_s=1)
    await api.start()
    upstream = f"http://127.0.0.1:{api.port}"
    settings = Settings(data_dir=tmp_path, files={"port": free_port(), "upstream": upstream, "drain_s": 1})
    Artifacts(settings.artifacts_url).put_bytes("outputs/1/v.mp4", b"video")
    replica = await started(Replica, settings)
    path = Signer.load(None, tmp_path).file_path("outputs/1/v.mp4")
    base = f"http://127.0.0.1:{await replica.port()}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        assert (await client.get(path)).content == b"video"
        assert (await client.get("/health")).text == "the API"
    await Replica.__del__(replica)
    await api.stop()
