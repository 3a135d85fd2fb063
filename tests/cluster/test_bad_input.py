"""Invalid input over HTTP: the contract's error, the request's id, and no files left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.local.profile import free_port
from tests.cluster.service import ENDPOINT, MediaServer, Service
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

CLIP = Clip("whole.mp4", frames=40, options=X264, audio="aac", audio_seconds=1.6)


@pytest.fixture(scope="module", autouse=True)
def sources(clips_dir: Path) -> None:
    whole = make(clips_dir / CLIP.name, CLIP).read_bytes()
    (clips_dir / "empty.mp4").write_bytes(b"")
    (clips_dir / "text.mp4").write_text("this is no video\n" * 1000)
    (clips_dir / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    fast = make(
        clips_dir / "fast.mp4", Clip("fast.mp4", frames=40, options=X264, container={"movflags": "faststart"})
    )
    (clips_dir / "truncated-fast.mp4").write_bytes(fast.read_bytes()[: fast.stat().st_size * 2 // 3])
    sound = Clip("sound.mp4", frames=0, audio="aac", audio_seconds=1.0)
    make_audio_only(clips_dir / sound.name)


def make_audio_only(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        for n in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, n * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def the_error(reply: httpx.Response, status: int, kind: str, loc: list[str]) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["x-fal-request-id"]
    item: dict[str, Any]
    (item,) = reply.json()["detail"]
    assert item["type"] == kind
    assert item["loc"] == loc
    assert item["msg"]
    assert item["url"].endswith(f"#{kind}")
    return item


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing.mp4", "file_download_error"),
        ("empty.mp4", "unsupported_video_format"),
        ("text.mp4", "unsupported_video_format"),
        ("truncated.mp4", "unsupported_video_format"),
        ("truncated-fast.mp4", "unsupported_video_format"),
        ("sound.mp4", "unsupported_video_format"),
    ],
)
def test_sources_that_cannot_be_used(
    service: Service, media_server: MediaServer, name: str, kind: str
) -> None:
    item = the_error(service.cut_out(media_server.url(name)), 422, kind, ["body", "video_url"])
    if kind == "unsupported_video_format":
        assert "mp4" in item["ctx"]["supported_formats"]
    wait_until(lambda: service.leftovers() == [])


def test_an_unreachable_host(service: Service) -> None:
    reply = service.cut_out(f"http://127.0.0.1:{free_port()}/clip.mp4")
    the_error(reply, 422, "file_download_error", ["body", "video_url"])
    wait_until(lambda: service.leftovers() == [])


@pytest.mark.parametrize(
    "source", ["ftp://example.org/a.mp4", "/etc/passwd", "data:video/mp4;base64,@@@", "nonsense"]
)
def test_unusable_urls(service: Service, source: str) -> None:
    the_error(service.cut_out(source), 422, "file_download_error", ["body", "video_url"])


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ({}, "missing", "video_url"),
        ({"video_url": 5}, "string_type", "video_url"),
        ({"video_url": "x", "model": "BiRefNet"}, "literal_error", "model"),
        ({"video_url": "x", "model": "matting"}, "literal_error", "model"),
        ({"video_url": "x", "video_quality": None}, "literal_error", "video_quality"),
        ({"video_url": "x", "refine_foreground": "perhaps"}, "bool_parsing", "refine_foreground"),
        ({"video_url": "x", "operating_resolution": "512x512"}, "literal_error", "operating_resolution"),
        (
            {"video_url": "x", "operating_resolution": "2304x2304"},
            "feature_not_supported",
            "operating_resolution",
        ),
    ],
)
def test_fields(service: Service, body: dict[str, Any], kind: str, field: str) -> None:
    the_error(service.client.post(ENDPOINT, json=body), 422, kind, ["body", field])


def test_unknown_fields_are_ignored(service: Service, media_server: MediaServer) -> None:
    reply = service.cut_out(media_server.url(CLIP.name), seed=7, fps=99)
    assert reply.status_code == 200, reply.text
    assert reply.json()["video"]["num_frames"] == 40


def test_a_body_that_is_not_json(service: Service) -> None:
    reply = service.client.post(ENDPOINT, content=b'{"video_url": ')
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["type"] == "json_invalid"
