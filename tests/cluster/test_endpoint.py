"""The endpoint over HTTP against the real application: rates, sizes, audio, downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.fal import OutputType
from tests.cluster.media import Media, read
from tests.cluster.service import MediaServer, Service
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster

NTSC = Fraction(24000, 1001)
BASE = Clip("base.mp4", frames=20, width=160, height=96, options=X264, audio="aac", audio_seconds=0.8)
ODD = Clip("odd.mkv", "ffv1", "yuv420p", width=131, height=75, frames=9, options={"level": "3"})
FILM = replace(BASE, name="film.mp4", rate=NTSC, frames=30, audio_seconds=1.25)


UrlOf = Callable[[Clip], str]


@pytest.fixture(scope="module")
def url(media_server: MediaServer, clips_dir: Path) -> UrlOf:
    def of(clip: Clip) -> str:
        if not (clips_dir / clip.name).exists():
            make(clips_dir / clip.name, clip)
        return media_server.url(clip.name)

    return of


def check_fields(video: dict[str, Any], path: Path, media: Media) -> None:
    """Every field of the reply is what the file says."""
    assert video["file_size"] == path.stat().st_size
    assert (video["width"], video["height"]) == (media.width, media.height)
    assert video["num_frames"] == len(media.times)
    step = (media.times[-1] - media.times[0]) / (len(media.times) - 1)
    assert video["fps"] == pytest.approx(float(1 / step), rel=2e-3)
    assert video["duration"] == pytest.approx(float(step * len(media.times)), abs=0.004)


def test_the_audio_goes_along(service: Service, tmp_path: Path, url: UrlOf) -> None:
    """Copied into mp4, Opus in webm."""
    reply = service.cut_out(url(BASE))
    media = read(service.download(reply, tmp_path))
    assert reply.headers["x-fal-request-id"] in reply.json()["video"]["url"]
    assert media.times == tuple(Fraction(n, 25) for n in range(20))
    assert media.audio == ("aac", 2, "stereo")
    media = read(
        service.download(service.cut_out(url(BASE), video_output_type=OutputType.WEBM.value), tmp_path)
    )
    assert media.alpha_mode == "1"
    assert media.audio is not None
    assert media.audio[:2] in {("opus", 2), ("libopus", 2)}


def test_the_matte_is_the_same_with_and_without_refinement(
    service: Service, tmp_path: Path, url: UrlOf
) -> None:
    """Refinement changes colours, never alpha."""
    alphas = []
    for refine in (True, False):
        reply = service.cut_out(url(BASE), refine_foreground=refine, video_output_type=OutputType.WEBM.value)
        media = read(service.download(reply, tmp_path))
        assert media.alpha is not None
        alphas.append(media.alpha)
    assert np.array_equal(alphas[0], alphas[1])


def test_film_rate_and_times_are_exact(service: Service, tmp_path: Path, url: UrlOf) -> None:
    reply = service.cut_out(url(FILM))
    path = service.download(reply, tmp_path)
    media = read(path)
    assert media.times == tuple(n / NTSC for n in range(30))
    check_fields(reply.json()["video"], path, media)
    assert reply.json()["video"]["fps"] == pytest.approx(23.976, abs=1e-3)


def test_film_rate_in_webm_is_exact_to_its_millisecond(service: Service, tmp_path: Path, url: UrlOf) -> None:
    media = read(
        service.download(service.cut_out(url(FILM), video_output_type=OutputType.WEBM.value), tmp_path)
    )
    assert all(abs(time - n / NTSC) <= Fraction(1, 2000) for n, time in enumerate(media.times))


def test_odd_sizes(service: Service, tmp_path: Path, url: UrlOf) -> None:
    """mp4 pads to even and says so; webm keeps the size."""
    reply = service.cut_out(url(ODD))
    media = read(service.download(reply, tmp_path))
    assert (media.width, media.height) == (132, 76)
    assert (reply.json()["video"]["width"], reply.json()["video"]["height"]) == (132, 76)
    reply = service.cut_out(url(ODD), video_output_type=OutputType.WEBM.value)
    media = read(service.download(reply, tmp_path))
    assert (media.width, media.height) == (131, 75)
    assert (reply.json()["video"]["width"], reply.json()["video"]["height"]) == (131, 75)
    assert media.audio is None


def test_the_run_prefix_and_a_data_uri(service: Service, tmp_path: Path, clips_dir: Path, url: UrlOf) -> None:
    import base64

    url(BASE)
    source = "data:video/mp4;base64," + base64.b64encode((clips_dir / BASE.name).read_bytes()).decode()
    reply = service.client.post("/run/fal-ai/birefnet/v2/video", json={"video_url": source})
    assert len(read(service.download(reply, tmp_path)).times) == 20


def test_repeated_runs_give_the_same_bytes(service: Service, tmp_path: Path, url: UrlOf) -> None:
    first, second = (service.download(service.cut_out(url(BASE)), tmp_path) for _ in range(2))
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_downloads_have_ranges_and_heads(service: Service, url: UrlOf) -> None:
    video = service.cut_out(url(BASE)).json()["video"]
    head = service.client.head(video["url"])
    assert head.headers["content-length"] == str(video["file_size"])
    assert head.headers["content-type"] == "video/mp4"
    part = service.client.get(video["url"], headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{video['file_size']}"


def test_openapi_is_served(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    assert "/fal-ai/birefnet/v2/video" in paths
