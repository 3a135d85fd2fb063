"""Sources that are data URIs."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from serve_app.errors import FileTooLarge, StorageFull
from serve_app.fetch.fetch import fetch
from tests.fetch.loopback import BODY, LIMITS, refused


@pytest.mark.parametrize(
    ("uri", "data"),
    [
        ("data:video/mp4;base64," + base64.b64encode(BODY).decode(), BODY),
        ("DATA:;BASE64,YWJj", b"abc"),
        ("data:;base64,YWI", b"ab"),  # without padding
        ("data:;base64,YU%6B%3D=\n", b"aI"),
        ("data:text/plain,a%20b%ffc", b"a b\xffc"),
        ("data:,", b""),
    ],
)
async def test_data_uris(out: Path, uri: str, data: bytes) -> None:
    assert await fetch(uri, out, LIMITS) == len(data)
    assert out.read_bytes() == data


@pytest.mark.parametrize(
    "uri", ["data:video/mp4;base64", "data:;base64,####", "data:;base64,A", "data:,\ud800"]
)
async def test_invalid_data_uris(out: Path, uri: str) -> None:
    assert "data URI" in await refused(uri, out)


async def test_a_data_uri_can_be_too_large(out: Path) -> None:
    with pytest.raises(FileTooLarge):
        await fetch("data:," + "x" * 100_001, out, LIMITS)
    assert not out.exists()


async def test_a_full_disk_is_not_a_source_error(out: Path) -> None:
    out.symlink_to("/dev/full")  # writes fail as on a full disk
    with pytest.raises(StorageFull, match="free space"):
        await fetch("data:,abc", out, LIMITS)
    assert not out.is_symlink()
