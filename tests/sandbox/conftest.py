"""One sandbox for all tests: its processes are new for each call."""

from __future__ import annotations

import pytest

from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SandboxSettings
from tests.video.conftest import clip

__all__ = ["clip"]


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return Sandbox(SandboxSettings(required=True), threads=1)
