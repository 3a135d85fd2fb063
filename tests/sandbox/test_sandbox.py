"""The sandbox gives what `serve_app.video` gives, byte by byte, and outlives whatever happens to its processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from serve_app.errors import (
    DecoderCrashed,
    EncoderCrashed,
    EncodingFailed,
    JobCancelled,
    UnsupportedVideo,
    WorkTimeout,
)
from serve_app.fal import OutputType
from serve_app.picture import Frames
from serve_app.protocols import Chunk, Cutout, Expected, Index, IndexBrief, JoinPiece
from serve_app.runner.plan import join_request, plan_chunks
from serve_app.sandbox.sandbox import Sandbox
from serve_app.sandbox.values import SharedCutout
from serve_app.settings import SandboxSettings, SourceLimits
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.figures import PieceFigures
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe
from tests.video.clips import X264, Clip
from tests.video.conftest import Clips
from tests.video.hostile import gif
from tests.video.pipeline import cutout_of, limits, never, settings_of
from tests.waiting import wait_until

FILM = Clip("thirty.mp4", frames=30, options=X264, audio="aac", audio_seconds=1.2)


@pytest.fixture
def source(clip: Clips) -> Path:
    return clip(FILM)


def chunks_of(index: Index) -> list[Chunk]:
    return plan_chunks(index, limits(10))


def same_frames(a: Frames, b: Frames) -> bool:
    planes = all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))
    return planes and np.array_equal(a.pts, b.pts) and (a.damage, a.layout) == (b.damage, b.layout)


def same_index(a: Index, b: Index) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Index.__dataclass_fields__)


@pytest.mark.parametrize("kind", list(OutputType))
def test_files_are_the_same_bytes(sandbox: Sandbox, source: Path, tmp_path: Path, kind: OutputType) -> None:
    index = sandbox.probe(source, SourceLimits(), never)
    assert same_index(index, probe(source))
    settings, made = settings_of(index, kind), []
    with (
        closing(sandbox.source(source, IndexBrief.of(index))) as confined,
        closing(ChunkDecoder(source, IndexBrief.of(index))) as decoder,
    ):
        for chunk in chunks_of(index):
            frames = decoder.decode(chunk, never)
            assert same_frames(confined.decode(chunk, never), frames)
            ours, theirs = tmp_path / f"ours-{chunk.number}", tmp_path / f"theirs-{chunk.number}"
            figures = encode_piece(cutout_of(frames, kind), settings, ours, never)
            assert sandbox.encode_piece(cutout_of(frames, kind), settings, theirs, never) == figures
            assert ours.read_bytes() == theirs.read_bytes()
            made.append(
                JoinPiece(theirs.name, figures.frames, figures.first_pts, figures.last_pts, figures.sha256)
            )
    expected = Expected(
        30,
        int(index.pts[0]),
        int(index.pts[-1]),
        int(index.pts[-1]) + index.last_duration,
        index.frame_duration,
    )
    request = join_request(settings, index, tuple(made), expected, "source", "output")

    def pieces() -> Iterator[Path]:
        return (tmp_path / piece.name for piece in made)

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert sandbox.join_pieces(pieces, request, source, theirs, never) == join_pieces(
        pieces, request, source, ours, never
    )
    assert ours.read_bytes() == theirs.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "theirs"} | {
        f"{who}-{number}" for who in ("ours", "theirs") for number in range(3)
    }


def test_an_error_of_a_task_comes_back(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(UnsupportedVideo, match="not a video in a supported format") as caught:
        sandbox.probe(path, SourceLimits(), never)
    assert "mp4" in caught.value.context["supported_formats"]
    with pytest.raises(FileNotFoundError):
        sandbox.probe(tmp_path / "nothing.mp4", SourceLimits(), never)


def test_a_crash_is_the_error_of_one_chunk(sandbox: Sandbox, source: Path) -> None:
    """Another source that is open at the same time goes on, and a new process gives the same frames."""
    index = probe(source)
    brief, (first, second, _) = IndexBrief.of(index), chunks_of(index)
    with closing(sandbox.source(source, brief)) as one, closing(sandbox.source(source, brief)) as other:
        one.decode(first, never)
        other.decode(first, never)
        os.kill(one._process.pid, signal.SIGSEGV)
        with pytest.raises(DecoderCrashed, match="SIGSEGV"):
            one.decode(second, never)
        expected = other.decode(second, never)
    with closing(sandbox.source(source, brief)) as again:
        assert same_frames(again.decode(second, never), expected)


def test_cancelling_kills_the_process(sandbox: Sandbox, source: Path) -> None:
    index = probe(source)
    with closing(sandbox.source(source, IndexBrief.of(index))) as opened:
        opened.decode(chunks_of(index)[0], never)
        pid = opened._process.pid
        os.kill(pid, signal.SIGSTOP)  # it will not answer
        told = threading.Event()
        threading.Timer(0.05, told.set).start()
        with pytest.raises(JobCancelled):
            opened.decode(chunks_of(index)[1], told.is_set)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_lost_zygote_is_replaced(source: Path) -> None:
    own = Sandbox(SandboxSettings(), threads=1)
    index = own.probe(source, SourceLimits(), never)
    with closing(own.source(source, IndexBrief.of(index))) as opened:
        opened.decode(chunks_of(index)[0], never)
        zygote = int(Path(f"/proc/{opened._process.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(zygote, signal.SIGKILL)
        assert select.select([opened._process._pidfd], [], [], 60)[0]  # its processes end with it
        with pytest.raises(DecoderCrashed):
            opened.decode(chunks_of(index)[1], never)
    assert same_index(own.probe(source, SourceLimits(), never), index)


OWNER = """
import sys, time
from pathlib import Path
from serve_app.protocols import IndexBrief
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SandboxSettings, SourceLimits

path = Path(sys.argv[1])
sandbox = Sandbox(SandboxSettings(), threads=1)
index = sandbox.probe(path, SourceLimits(), lambda: False)
source = sandbox.source(path, IndexBrief.of(index))
print(source._process.pid, flush=True)
sys.stdin.read()
"""


def test_processes_end_with_their_replica(source: Path) -> None:
    """However it ends, and without its environment in their memory."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"BIREFNET_SECRET": "0123456789"},
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        zygote = process.parent()
        assert b"0123456789" not in Path(f"/proc/{zygote.pid}/environ").read_bytes()
        owner.kill()
    wait_until(lambda: not any(each.is_running() and each.status() != "zombie" for each in (process, zygote)))


def test_memory_is_limited(tmp_path: Path) -> None:
    """One picture of 64 MiB is more than a process may have."""
    own = Sandbox(SandboxSettings.model_construct(memory_bytes=32 << 20), threads=1)
    path = tmp_path / "large.gif"
    path.write_bytes(gif(4096, 4096))
    with pytest.raises(UnsupportedVideo, match=r"memory|could be decoded"):
        own.probe(path, SourceLimits(), never)


def test_cpu_time_is_limited(source: Path) -> None:
    own = Sandbox(SandboxSettings(cpu_s=1), threads=1)
    index = probe(source)
    first = chunks_of(index)[0]
    with closing(own.source(source, IndexBrief.of(index))) as opened:
        assert opened.fit(source)
        with pytest.raises(WorkTimeout, match="CPU time"):
            while True:
                opened.decode(first, never)


def test_a_process_that_is_worn_or_has_another_file_is_not_kept(source: Path, tmp_path: Path) -> None:
    own = Sandbox(SandboxSettings(cpu_s=2), threads=1)
    path = tmp_path / "source"
    path.write_bytes(source.read_bytes())
    index = probe(path)
    with closing(own.source(path, IndexBrief.of(index))) as opened:
        opened.decode(chunks_of(index)[0], never)
        assert opened.fit(path)
        while opened.fit(path):  # it may use half of its time before
            opened.decode(chunks_of(index)[0], never)
    with closing(own.source(path, IndexBrief.of(index))) as opened:
        (tmp_path / "other").write_bytes(source.read_bytes())
        (tmp_path / "other").replace(path)  # as a node's cache does, when it fetches a source again
        assert not opened.fit(path)


def test_the_size_of_files_is_limited(sandbox: Sandbox, source: Path, tmp_path: Path) -> None:
    settings = settings_of(probe(source), OutputType.MOV)
    handed, memory = SharedCutout.of(cutout_from(source, OutputType.MOV))
    process = sandbox._process(writable=(tmp_path,), file_bytes=1 << 10)
    arguments = (handed, settings, tmp_path / "piece", 1)
    with closing(process), pytest.raises(EncodingFailed, match="File too large"):
        process.call(PieceFigures, "encode", arguments, never, memory)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_writing_leaves_nothing(sandbox: Sandbox, clip: Clips, tmp_path: Path) -> None:
    source = clip(Clip("sandbox-large.mp4", frames=24, width=640, height=360, options=X264))
    settings = settings_of(probe(source), OutputType.WEBM)

    def kill() -> bool:
        """Called while the replica waits for the process, which takes longer than the first wait."""
        for process in psutil.Process().children(recursive=True):
            if process.parent().cmdline()[2:4] == ["-m", "serve_app.sandbox.zygote"]:
                process.send_signal(signal.SIGABRT)
        return False

    with pytest.raises(EncoderCrashed, match="SIGABRT"):
        sandbox.encode_piece(cutout_from(source, OutputType.WEBM), settings, tmp_path / "piece", kill)
    assert list(tmp_path.iterdir()) == []


def cutout_from(source: Path, kind: OutputType) -> Cutout:
    index = probe(source)
    with closing(ChunkDecoder(source, IndexBrief.of(index))) as decoder:
        return cutout_of(decoder.decode(plan_chunks(index, limits(24))[0], never), kind)
