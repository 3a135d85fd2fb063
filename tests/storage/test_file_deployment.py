"""The deployment class around the file server, without a cluster."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from serve_app.storage.artifacts import Artifacts
from serve_app.storage.file_deployment import FileServer

Replica = FileServer.func_or_class


class Held(Replica):  # type: ignore[valid-type,misc]
    """A replica whose destructor only the test calls: Serve awaits it, Python's collector cannot."""

    def __del__(self) -> None: ...


async def test_a_replica_serves_reports_and_stops(tmp_path: Path) -> None:
    store = Artifacts(tmp_path)
    store.put_bytes("outputs/1/v.mp4", b"video")
    replica = Held.__new__(Held)
    await replica.__init__(tmp_path, "127.0.0.1", 0, drain_s=1)
    url = f"http://127.0.0.1:{await replica.port()}/files/outputs/1/v.mp4"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).content == b"video"
        await replica.check_health()

        await Replica.__del__(replica)
        with pytest.raises(RuntimeError, match="has stopped"):
            await replica.check_health()
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
