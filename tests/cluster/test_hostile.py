"""Hostile sources beside a good one: each gets its error, and the good job the bytes that it always gets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cluster.service import MediaServer, Service
from tests.sandbox.stages import Watch
from tests.video.clips import X264, Clip, make
from tests.video.good_clips import good_clips
from tests.video.hostile import make_all

pytestmark = pytest.mark.cluster

GOOD = Clip("beside.mp4", frames=48, width=160, height=96, options=X264)
SOME = ("file.m3u8", "stts-middle.mp4", "canvas-16000.gif", "url-dref.mov", "programs.ts", "rubbish.mkv")


@dataclass(frozen=True)
class Sources:
    names: list[str]
    watch: Watch
    listener: socket.socket


@pytest.fixture(scope="module")
def hostile(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    make(clips_dir / GOOD.name, GOOD)
    canary = clips_dir / "canary.mp4"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        good = good_clips(tmp_path_factory.mktemp("good"))
        canary.write_bytes(good["mp4"].read_bytes())
        watch = Watch(canary)
        names = list(make_all(clips_dir, good, canary, listener.getsockname()[1]))
        yield Sources(names, watch, listener)
        watch.close()


@pytest.mark.parametrize("all_of_them", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_good_job_beside_them_is_undisturbed(
    service: Service, media_server: MediaServer, hostile: Sources, tmp_path: Path, all_of_them: bool
) -> None:
    names = hostile.names if all_of_them else SOME
    good = media_server.url(GOOD.name)
    alone = service.download(service.cut_out(good), tmp_path).read_bytes()
    replicas = [service.replicas(stage) for stage in ("Decoder", "Encoder")]
    with ThreadPoolExecutor(4) as threads:
        beside = threads.submit(service.cut_out, good)
        replies = list(threads.map(lambda name: service.cut_out(media_server.url(quote(name))), names))
        assert service.download(beside.result(), tmp_path).read_bytes() == alone
    for name, reply in zip(names, replies, strict=True):
        assert reply.status_code in (200, 422), f"{name}: {reply.text}"
        assert reply.status_code == 200 or reply.json()["detail"][0]["type"], name
    assert {reply.status_code for reply in replies} == {200, 422}
    assert [service.replicas(stage) for stage in ("Decoder", "Encoder")] == replicas
    assert hostile.watch.opened() == 0
    with pytest.raises(BlockingIOError):
        hostile.listener.accept()
    assert service.leftovers() == []
