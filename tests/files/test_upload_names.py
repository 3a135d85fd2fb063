"""Names of uploads: file name, content type, expiry."""

from __future__ import annotations

import re
import time

import pytest
from starlette.datastructures import Headers

from serve_app.artifacts.names import check_name
from serve_app.files.upload_names import (
    content_type,
    expiry,
    has_expired,
    lifetime_in,
    new_upload,
    parts_of,
    staging,
)


@pytest.mark.parametrize(
    ("file_name", "kind", "stored", "served"),
    [
        ("clip.mov", "video/quicktime", "clip.mov", "video/quicktime"),
        ("clip.bin", "video/mp4", "clip.bin.mp4", "video/mp4"),
        ("clip", "video/webm; codecs=vp9", "clip.webm", "video/webm"),
        ("clip.mkv", "application/octet-stream", "clip.mkv", "video/x-matroska"),
        ("clip.MP4", "Video/MP4", "clip.MP4", "video/mp4"),
        ("../../../etc/passwd", "video/x-unknown", "passwd", "application/octet-stream"),
        ("a\\..\\b.mp4", "video/mp4", "b.mp4", "video/mp4"),
        ("...", "video/mp4", "upload.mp4", "video/mp4"),
        ("..", "", "upload", "application/octet-stream"),
        ("日本.mp4", "video/mp4", "upload.mp4", "video/mp4"),
        ("Über  uns\n(1).mp4", "video/mp4", "Uber_uns_1.mp4", "video/mp4"),
        (None, "image/gif", "upload.gif", "image/gif"),
        (None, None, "upload", "application/octet-stream"),
        ("page.html", "text/html", "page.html", "application/octet-stream"),
        ("é" * 300 + ".mp4", "video/mp4", "e" * 120 + ".mp4", "video/mp4"),
        ("x." + "y" * 300, None, ("x." + "y" * 300)[:120], "application/octet-stream"),
    ],
)
def test_names_and_types(file_name: str | None, kind: str | None, stored: str, served: str) -> None:
    name = new_upload(file_name, kind, 17)
    assert re.fullmatch(r"uploads/0000000017-[0-9a-f]{32}/" + re.escape(stored), check_name(name))
    assert content_type(name) == served
    assert name != new_upload(file_name, kind, 17)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"expiration_duration_seconds": 60}', 60),
        ('{"expiration_duration_seconds": 7.5}', 7.5),
        ('{"expiration_duration_seconds": null}', None),
        ('{"expiration_duration_seconds": 0}', None),
        ('{"initial_acl": {"default": "hide"}}', 1000),
        *(
            (text, 1000)
            for text in (
                "",
                "{",
                "[]",
                "3",
                "NaN",
                "[" * 5000,
                '{"expiration_duration_seconds": NaN}',
                '{"expiration_duration_seconds": "60"}',
                '{"expiration_duration_seconds": true}',
                '{"expiration_duration_seconds": -1}',
                '{"expiration_duration_seconds": []}',
                '{"expiration_duration_seconds": 1%s}' % ("0" * 400),
            )
        ),
    ],
)
def test_lifetimes(text: str, seconds: float | None) -> None:
    assert lifetime_in(Headers({"X-Fal-Object-Lifecycle": text}), 1000) == seconds
    assert lifetime_in(Headers({"X-Fal-Object-Lifecycle-Preference": text}), 1000) == seconds


def test_the_default_lifetime() -> None:
    assert lifetime_in(Headers({}), 1000) == 1000
    assert lifetime_in(Headers({}), None) is None
    both = {
        "X-Fal-Object-Lifecycle-Preference": "{",
        "X-Fal-Object-Lifecycle": '{"expiration_duration_seconds": 1}',
    }
    assert lifetime_in(Headers(both), 1000) == 1


def test_expiries() -> None:
    now = time.time()
    assert now + 10 <= expiry(10) <= time.time() + 11
    assert now + 100 <= expiry(10, at_least_s=100) <= time.time() + 101
    assert expiry(None) == expiry(None, 100) == expiry(1e12) == expiry(float("inf")) == 0


def test_names_of_unfinished_files() -> None:
    name = new_upload("v.mp4", None, 0)
    parts = parts_of(name, 1_800_000_000)
    assert parts == "uploads-parts/1800000000-" + name.split("/")[1].split("-")[1]
    moment = int(check_name(staging()).removeprefix("uploads-parts/").split("-")[0])
    assert 86_400 <= moment - time.time() + 1 <= 2 * 86_400 + 1


def test_expired_directories() -> None:
    now = int(time.time())
    for moment, over in ((now - 1, True), (now + 100, False), (0, False)):
        assert has_expired(new_upload("v.mp4", None, moment).split("/")[1]) == over
    assert not has_expired("") and not has_expired("other") and not has_expired("x-y")
