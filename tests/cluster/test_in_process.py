"""`remove_background` beside the service: the same bytes and the same figures for the same request."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serve_app import remove_background
from serve_app.fal import OutputType
from serve_app.protocols import MediaFile
from serve_app.settings import Settings
from tests.cluster.service import MediaServer, Service
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster

CLIP = Clip("both.mp4", frames=40, width=160, height=96, options=X264, audio="aac", audio_start=0.2)
OPTIONS: dict[str, Any] = {  # those that are not the default
    "model": "Matting",
    "operating_resolution": "2048x2048",
    "refine_foreground": False,
    "video_quality": "medium",
    "video_write_mode": "fast",
    "drop_audio": True,
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param(OutputType.MP4, {}, id="mp4"),
        pytest.param(OutputType.WEBM, {}, id="webm"),
        pytest.param(OutputType.WEBM, OPTIONS, id="webm-options"),
        pytest.param(OutputType.MOV, {}, id="mov", marks=pytest.mark.long),
        pytest.param(OutputType.GIF, {}, id="gif", marks=pytest.mark.long),
    ],
)
def test_bytes_and_figures_are_those_of_the_service(
    service: Service,
    media_server: MediaServer,
    clips_dir: Path,
    tmp_path: Path,
    kind: OutputType,
    options: dict[str, Any],
) -> None:
    source = make(clips_dir / CLIP.name, CLIP)
    reply = service.cut_out(
        media_server.url(source.name), video_output_type=kind.value, output_mask=True, **options
    )
    assert reply.status_code == 200, reply.text
    extension = Path(reply.json()["video"]["file_name"]).suffix
    out, mask = tmp_path / f"out{extension}", tmp_path / f"mask{extension}"
    made = remove_background(source, out, mask=mask, settings=Settings(data_dir=service.data_dir), **options)
    assert made.mask_video is not None
    for file, path, theirs in (
        (made.video, out, reply.json()["video"]),
        (made.mask_video, mask, reply.json()["mask_video"]),
    ):
        assert path.read_bytes() == service.client.get(theirs["url"]).raise_for_status().content
        assert figures(file) == {
            name: value for name, value in theirs.items() if name not in ("url", "file_name")
        }


def figures(file: MediaFile) -> dict[str, Any]:
    return {name: value for name, value in asdict(file).items() if name not in ("name", "file_name")}
