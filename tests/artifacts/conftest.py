"""A bucket of its own for each test, and a store in it; tests of other stores have a `store` of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.artifacts.store import Artifacts
from tests.artifacts.s3 import S3Server, node_disk


@pytest.fixture
def url(s3: S3Server) -> str:
    return f"s3://{s3.new_bucket()}/root/prefix"


@pytest.fixture
def store(url: str, tmp_path: Path) -> Artifacts:
    return Artifacts(url, node_disk(tmp_path / "scratch"))
