"""Awkward clips through the deployed graph: the reply's figures, the file, and the warnings in the job's log."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest

from serve_app.fal import OutputType
from serve_app.video.probe import probe
from tests.cluster.media import read
from tests.cluster.service import MediaServer, Service
from tests.video.altered import overwritten, packets_in
from tests.video.corpus import CASES, Case
from tests.video.pipeline import times
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

NAMES = [
    "h264.ts", "hevc.mkv", "av1.mp4", "hidden.webm", "screen.mkv", "seven.mkv", "latesound.mkv", "reset.ts",
    "eight-speakers.mkv", "gap-pcm.mkv", "latin1.avi", "preview.mkv", "cut.mkv", "cut.ts", "cut-fragmented.mp4",
    "rubbish.mp4", "rubbish.webm",
]  # fmt: skip
TYPES = list(OutputType)
TICK = {OutputType.MP4: 1e-4, OutputType.WEBM: 1e-3, OutputType.MOV: 1e-4, OutputType.GIF: 6e-3}


def warnings(service: Service, job: str) -> list[str]:
    reply = service.client.get(f"/queue/fal-ai/birefnet/requests/{job}/status", params={"logs": 1})
    return [line["message"] for line in reply.json()["logs"] if line["level"] == "WARN"]


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES[name] for name in NAMES)), ids=NAMES)
def test_through_the_service(
    service: Service, media_server: MediaServer, clips_dir: Path, tmp_path: Path, number: int, case: Case
) -> None:
    source, output_type = case.make(clips_dir), TYPES[number % len(TYPES)]
    reply = service.cut_out(media_server.url(source.name), video_output_type=output_type.value)
    media = read(service.download(reply, tmp_path))
    index = probe(source, decode=case.name == "hidden.webm")
    planned = [float(time) for time in times(index)]
    start = planned[0] if output_type is OutputType.GIF else 0.0
    assert reply.json()["video"]["num_frames"] == len(media.times)
    assert len(media.times) == case.frames or (case.frames is None and len(media.times) > 0.3 * len(planned))
    for time in media.times:
        assert min(abs(float(time) + start - wanted) for wanted in planned) <= TICK[output_type]
    duration = case.duration or index.duration_s
    assert reply.json()["video"]["duration"] == pytest.approx(duration, abs=0.0125)
    assert (media.audio is not None) == (index.audio is not None and output_type is not OutputType.GIF)
    said = warnings(service, reply.headers["x-fal-request-id"])
    if case.warns:
        assert re.search(case.warns, " ".join(said))
    else:
        assert said == [] or case.name == "reset.ts"
    wait_until(lambda: service.leftovers() == [])


def test_without_audio(service: Service, media_server: MediaServer, clips_dir: Path, tmp_path: Path) -> None:
    """Our own extension of the contract; a track that cannot be decoded is refused before anything is computed."""
    whole = CASES["short.mkv"].make(clips_dir)
    for value, tracks in ((False, 1), (True, 0)):
        reply = service.cut_out(media_server.url(whole.name), drop_audio=value)
        with av.open(str(service.download(reply, tmp_path))) as container:
            assert len(container.streams.audio) == tracks
    broken = overwritten(whole, clips_dir / "no-sound.mkv", range(len(packets_in(whole, "audio"))), "audio")
    reply = service.cut_out(media_server.url(broken.name))
    assert reply.status_code == 422
    assert "drop_audio" in reply.json()["detail"][0]["msg"]
    assert service.cut_out(media_server.url(broken.name), drop_audio=True).status_code == 200
