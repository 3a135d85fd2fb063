"""Hostile media: each ends with a typed error or a right file, and touches nothing but its own process."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve_app.errors import SourceError
from serve_app.fal import OutputType
from serve_app.runner.retry import CRASHES
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SandboxSettings, SourceLimits
from serve_app.video.probe import probe
from tests.sandbox.stages import Watch, run
from tests.video.good_clips import good_clips
from tests.video.hostile import make_all

LIMITS = SourceLimits(max_frames=100_000)
REFERENCES = (
    ".m3u8",
    ".concat",
    ".mpd",
    ".asx",
    ".rtx",
    ".sdp",
    ".ass",
    ".avs",
    ".vpy",
    "-rmra.mov",
    "-dref.mov",
)
IGNORED = "-dref.mov"  # FFmpeg reads the samples from the file itself instead
MEMORY = 512 << 20


@dataclass(frozen=True)
class Hostile:
    files: dict[str, Path]
    watch: Watch
    listener: socket.socket

    def check_untouched(self) -> None:
        assert self.watch.opened() == 0
        with pytest.raises(BlockingIOError):
            self.listener.accept()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    canary = folder / "canary.mp4"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        good = good_clips(tmp_path_factory.mktemp("good"))
        canary.write_bytes(good["mp4"].read_bytes())
        files = make_all(folder, good, canary, listener.getsockname()[1])
        watch = Watch(canary)
        yield Hostile(files, watch, listener)
        watch.close()


def test_there_are_enough_of_them(hostile: Hostile) -> None:
    assert len(hostile.files) >= 80
    (hostile.files["text.mp4"].parent / "canary.mp4").read_bytes()
    assert hostile.watch.opened() == 1  # it would be noticed


def test_none_does_any_harm(hostile: Hostile, tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings(memory_bytes=MEMORY, required=True), threads=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {
        name: run(sandbox, path, tmp_path, LIMITS, OutputType.MP4) for name, path in hostile.files.items()
    }
    refused = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    for name, outcome in sorted(outcomes.items()):
        print(f"{name:24} {outcome.grown:6.0f} MiB  {outcome.error or 'came through'}"[:150])
    assert {name for name in outcomes if name.endswith(REFERENCES)} - set(refused) == {
        name for name in outcomes if name.endswith(IGNORED)
    }
    assert not any(isinstance(error, CRASHES) for error in refused.values())
    assert all(outcome.grown <= MEMORY >> 20 for outcome in outcomes.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # the replica's own
    hostile.check_untouched()


def test_demuxers_alone_touch_nothing(hostile: Hostile) -> None:
    """What refers to other files is refused, or read without them, without the help of the sandbox too."""
    for name, path in hostile.files.items():
        if name.endswith(REFERENCES):
            with nullcontext() if name.endswith(IGNORED) else pytest.raises(SourceError):
                probe(path, LIMITS)
    hostile.check_untouched()
