"""One service for the whole run: starting it costs half a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.service import MediaServer, Service, descendants, is_running


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service.start(tmp_path_factory.mktemp("service") / "data")
    yield running
    started = descendants(running.process.pid)
    assert len(started) > 5
    assert running.stop() == 0
    assert [pid for pid in started if is_running(pid)] == []


@pytest.fixture(scope="session")
def clips_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="session")
def media_server(clips_dir: Path) -> Iterator[MediaServer]:
    server = MediaServer(clips_dir)
    yield server
    server.stop()
