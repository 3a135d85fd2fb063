"""Every model, output type, quality, write mode, mask and sync mode: each file decoded, its alpha held to the mask."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.fal import OutputType, Quality, Variant, WriteMode
from tests.cluster.media import Media, read
from tests.cluster.service import MediaServer, Service
from tests.video.clips import X264, Clip, make
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FRAMES = 4
CLIP = Clip("matrix.mp4", frames=FRAMES, width=96, height=64, options=X264, audio="aac", audio_seconds=0.16)
TYPES = {  # codec, pixel formats, content type, extension
    OutputType.MP4: ("h264", {"yuv420p"}, "video/mp4", ".mp4"),
    OutputType.WEBM: ("vp9", {"yuva420p"}, "video/webm", ".webm"),
    OutputType.MOV: ("prores", {"yuva444p10le", "yuva444p12le"}, "video/quicktime", ".mov"),
    OutputType.GIF: ("gif", {"bgra"}, "image/gif", ".gif"),
}


@pytest.fixture(scope="module")
def url(media_server: MediaServer, clips_dir: Path) -> str:
    make(clips_dir / CLIP.name, CLIP)
    return media_server.url(CLIP.name)


def fetched(service: Service, file: dict[str, Any], directory: Path) -> Path:
    """The bytes of an output, wherever its URL says that they are."""
    path = directory / str(file["file_name"])
    if file["url"].startswith("data:"):
        head, _, data = file["url"].partition(",")
        assert head == f"data:{file['content_type']};base64"
        path.write_bytes(base64.b64decode(data))
    else:
        path.write_bytes(service.client.get(file["url"]).raise_for_status().content)
    assert path.stat().st_size == file["file_size"]
    return path


def check(file: dict[str, Any], media: Media, kind: OutputType) -> None:
    codec, formats, content_type, extension = TYPES[kind]
    assert (file["content_type"], Path(file["file_name"]).suffix) == (content_type, extension)
    assert media.codec == codec
    assert media.pixel_format in formats
    assert (file["width"], file["height"]) == (media.width, media.height) == (96, 64)
    assert file["num_frames"] == len(media.times) == FRAMES
    tick = Fraction(1, 100) if kind is OutputType.GIF else Fraction(1, 1000)
    assert all(abs(time - Fraction(n, 25)) <= tick / 2 for n, time in enumerate(media.times))
    assert (media.audio is None) == (kind is OutputType.GIF)


def check_alpha(media: Media, mask: Media, kind: OutputType) -> None:
    """Both are encoded from the same matte, each with its own loss."""
    assert mask.alpha is None or (mask.alpha == 255).all()
    assert len(mask.times) == FRAMES
    assert mask.audio is None
    matte = mask.grey.astype(int)
    if kind is OutputType.MP4:
        assert media.alpha is None
        hidden = matte < 8
        assert not hidden.any() or media.grey[hidden].mean() < 12  # black, except for ringing of the codec
        return
    assert media.alpha is not None
    alpha = media.alpha.astype(int)
    if kind is OutputType.GIF:
        assert set(np.unique(alpha)) <= {0, 255}
        certain = np.abs(matte - 127.5) > 24
        assert ((alpha > 0) == (matte >= 128))[certain].all()
        return
    bound = 2.0 if kind is OutputType.MOV else 6.0
    assert np.abs(alpha - matte).mean() < bound


@pytest.mark.parametrize("kind", list(OutputType))
@pytest.mark.parametrize("model", list(Variant))
def test_every_model_in_every_type(
    service: Service, tmp_path: Path, url: str, model: Variant, kind: OutputType
) -> None:
    reply = service.cut_out(url, model=model.value, video_output_type=kind.value, output_mask=True)
    assert reply.status_code == 200, reply.text
    video, mask = (reply.json()[key] for key in ("video", "mask_video"))
    media, matte = read(fetched(service, video, tmp_path)), read(fetched(service, mask, tmp_path))
    check(video, media, kind)
    check_alpha(media, matte, kind)
    assert mask["content_type"] == video["content_type"]
    wait_until(lambda: service.leftovers() == [])


@pytest.mark.parametrize("write_mode", list(WriteMode))
@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("kind", list(OutputType))
def test_every_quality_and_write_mode(
    service: Service, tmp_path: Path, url: str, kind: OutputType, quality: Quality, write_mode: WriteMode
) -> None:
    options = {"video_quality": quality.value, "video_write_mode": write_mode.value}
    reply = service.cut_out(url, video_output_type=kind.value, **options)
    assert reply.status_code == 200, reply.text
    assert "mask_video" not in reply.json()
    video = reply.json()["video"]
    check(video, read(fetched(service, video, tmp_path)), kind)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("kind", list(OutputType))
def test_sync_mode_returns_the_files_and_keeps_nothing(
    service: Service, tmp_path: Path, url: str, kind: OutputType, mask: bool
) -> None:
    plain = service.cut_out(url, video_output_type=kind.value, output_mask=mask)
    reply = service.cut_out(url, video_output_type=kind.value, output_mask=mask, sync_mode=True)
    assert reply.status_code == 200, reply.text
    keys = ["video", "mask_video"] if mask else ["video"]
    assert list(reply.json()) == keys
    for key in keys:
        inline = fetched(service, reply.json()[key], tmp_path).read_bytes()
        assert inline == fetched(service, plain.json()[key], tmp_path).read_bytes()
    job = reply.headers["x-fal-request-id"]
    assert not list((service.data_dir / "artifacts").rglob(f"*{job}*"))


def test_every_operating_resolution(service: Service, url: str) -> None:
    """The embedded checkpoint sees every frame at its own largest size, and the log tells so."""
    for size, model in (
        ("1024x1024", Variant.LIGHT),
        ("2048x2048", Variant.LIGHT),
        ("2304x2304", Variant.DYNAMIC),
    ):
        reply = service.cut_out(url, operating_resolution=size, model=model.value)
        assert reply.status_code == 200, reply.text
        job = reply.headers["x-fal-request-id"]
        status = service.client.get(f"/queue/fal-ai/birefnet/requests/{job}/status", params={"logs": 1})
        lines = [line["message"] for line in status.json()["logs"]]
        assert any(f"at 256x256 (its largest size; {size} was requested)" in line for line in lines)
