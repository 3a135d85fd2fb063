"""`birefnet-serve remove`: files and URLs, on a running server and on a temporary one, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.media import read
from tests.cluster.service import ROOT, MediaServer, Service
from tests.cluster.test_cli import cli
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster

CLIP = Clip("holiday.mp4", frames=10, width=96, height=64, options=X264)


@pytest.fixture(scope="module")
def clip(clips_dir: Path) -> Path:
    return make(clips_dir / CLIP.name, CLIP)


@pytest.mark.long
def test_a_file_and_a_url_against_a_running_server(
    service: Service, media_server: MediaServer, clip: Path, tmp_path: Path
) -> None:
    make(clip.with_name("street.mp4"), replace(CLIP, name="street.mp4"))
    url = media_server.url("street.mp4")
    options = ["-o", str(tmp_path), "--server", service.url, "--type", "mov", "--mask", "--jobs", "2"]
    done = cli("remove", str(clip), url, *options)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr  # no terminal, no control codes
    names = [f"{name}-{what}.mov" for name in ("holiday", "street") for what in ("cutout", "mask")]
    assert sorted(done.stdout.split()) == sorted(str(tmp_path / name) for name in names)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    media = read(tmp_path / "holiday-cutout.mov")
    assert (media.codec, len(media.times)) == ("prores", 10)
    assert media.alpha is not None


@pytest.mark.long
def test_the_output_can_be_named(service: Service, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "subject.gif"
    done = cli(
        "remove", str(clip), "-o", str(out), "--server", service.url, "--type", "gif", "--quality", "low"
    )
    assert done.returncode == 0, done.stderr
    assert read(out).codec == "gif"


@pytest.mark.long
def test_a_temporary_server(clip: Path, tmp_path: Path) -> None:
    done = cli("remove", str(clip), "-o", str(tmp_path), "--no-refine", "--write-mode", "fast")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "holiday-cutout.webm").alpha is not None


@pytest.mark.long
def test_directories_and_patterns(service: Service, clip: Path, tmp_path: Path) -> None:
    """One JSON object for each video; what is there already is skipped, until told otherwise."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, videos / name)
    (videos / "notes.txt").write_text("no video")
    common = ["-o", str(out), "--server", service.url, "--json", "--jobs", "2"]
    done = cli("remove", str(videos / "a*"), *common)
    assert done.returncode == 0, done.stderr
    (first,) = map(json.loads, done.stdout.splitlines())
    assert (first["source"], first["video"]["num_frames"]) == (str(videos / "a.mp4"), 10)
    written = (out / "a-cutout.webm").stat().st_mtime_ns

    found = [json.loads(line) for line in cli("remove", str(videos), *common).stdout.splitlines()]
    results = {Path(item["source"]).name: item for item in found}
    assert results.keys() == {"a.mp4", "b.mp4"}
    assert results["a.mp4"] == {"source": str(videos / "a.mp4"), "skipped": str(out / "a-cutout.webm")}
    assert results["b.mp4"]["video"]["path"] == str(out / "b-cutout.webm")
    assert (out / "a-cutout.webm").stat().st_mtime_ns == written

    assert cli("remove", str(videos / "a.mp4"), *common, "--overwrite").returncode == 0
    assert (out / "a-cutout.webm").stat().st_mtime_ns > written


def test_through_pipes(service: Service, clip: Path, tmp_path: Path) -> None:
    """`cat clip | birefnet-serve remove - -o -`: the video alone on standard output, nothing else written."""
    out = tmp_path / "out.webm"
    command = " ".join(
        [
            f"cat {shlex.quote(str(clip))} | {shlex.quote(sys.executable)} -m serve_app.cli.main",
            f"remove - -o - --server {service.url} | cat > {shlex.quote(str(out))}",
        ]
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stderr and b"frames" in done.stderr
    assert list(tmp_path.iterdir()) == [out]
    media = read(out)
    assert len(media.times) == 10 and media.alpha is not None


def test_a_reader_that_leaves(service: Service, clip: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    program = [sys.executable, "-m", "serve_app.cli.main", "remove", str(clip), "-o", "-"]
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [*program, "--server", service.url], stdout=closed, stderr=subprocess.PIPE, cwd=ROOT, timeout=120
        )
    assert done.returncode == 1
    assert "standard output was closed" in " ".join(done.stderr.decode().split())
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


@pytest.mark.long
def test_two_inputs_with_one_output(service: Service, clip: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / clip.name
    other.parent.mkdir()
    shutil.copy(clip, other)
    done = cli("remove", str(clip), str(other), "-o", str(tmp_path), "--server", service.url)
    assert done.returncode == 1
    assert "is the output of another input" in " ".join(done.stderr.split())


def test_interrupting_cancels_the_request(service: Service, clips_dir: Path, tmp_path: Path) -> None:
    """In a terminal, with its bar; status and cancel know the request too."""
    long = make(
        clips_dir / "endless.mp4", Clip("endless.mp4", frames=2000, width=96, height=64, options=X264)
    )
    program = [sys.executable, "-m", "serve_app.cli.main", "remove", str(long), "-o", str(tmp_path)]
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*program, "--server", service.url],
        cwd=ROOT,
        stdout=follower,
        stderr=follower,
        preexec_fn=interruptible,
    ) as shell:
        os.close(follower)
        screen = b""
        while b"2000" not in screen:
            screen += os.read(leader, 4096)
        (request_id,) = under_way(service)
        assert cli("status", request_id, "--server", service.url).stdout.startswith(
            "IN_PROGRESS\nsegmenting: "
        )
        shell.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal is gone
            while True:
                screen += os.read(leader, 4096)
        assert shell.wait(60) == 130
    os.close(leader)
    assert b"\x1b[" in screen and b"frames" in screen
    assert f"request {request_id} is cancelled".encode() in screen
    assert state(service, request_id) == "CANCELLED"
    shown = cli("status", request_id, "--server", service.url).stdout
    assert "cancelled" in shown.lower()
    assert list(tmp_path.iterdir()) == []
    over = cli("cancel", request_id, "--server", service.url)
    assert over.returncode == 1
    unknown = cli("status", "00000000-0000-4000-8000-000000000000", "--server", service.url)
    assert unknown.returncode == 1 and unknown.stderr.strip()


@pytest.mark.parametrize("cancel_works", [True, False])
def test_interrupting_the_submission(
    service: Service, media_server: MediaServer, clips_dir: Path, tmp_path: Path, cancel_works: bool
) -> None:
    """Ctrl-C after the service has accepted a request, and before its reply has arrived."""
    make(clips_dir / "awaited.mp4", Clip("awaited.mp4", frames=2000, width=96, height=64, options=X264))
    program = [sys.executable, "-m", "serve_app.cli.main"]
    with between(service, cancel_works) as (url, accepted, interrupted):
        with subprocess.Popen(
            [*program, "remove", media_server.url("awaited.mp4"), "-o", str(tmp_path), "--server", url],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=interruptible,
        ) as shell:
            assert accepted.wait(60)
            (request_id,) = under_way(service)
            shell.send_signal(signal.SIGINT)
            interrupted.set()
            _, said = shell.communicate(timeout=60)
        assert shell.returncode == 130
    if cancel_works:
        assert f"request {request_id} is cancelled" in said
        assert state(service, request_id) == "CANCELLED"
    else:
        assert f"request {request_id} was not cancelled" in said
        assert cli("cancel", request_id, "--server", service.url).returncode == 0


@contextmanager
def between(service: Service, cancel_works: bool) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """A proxy that keeps the reply to a submission until the second event is set, and may refuse cancellations."""
    accepted, interrupted = threading.Event(), threading.Event()

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {"Host": self.headers["Host"], "Content-Type": "application/json"}
            reply = service.client.request(self.command, self.path, content=body, headers=headers)
            if self.command == "POST":
                accepted.set()
                assert interrupted.wait(60)
            self.answer(reply.status_code, reply.content)

        do_GET = do_POST = forward

        def do_PUT(self) -> None:
            if cancel_works:
                self.forward()
            else:
                self.answer(503, b'{"detail": "out of order"}')

        def answer(self, status: int, body: bytes) -> None:
            with suppress(BrokenPipeError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", accepted, interrupted
        finally:
            server.shutdown()
            thread.join()


def state(service: Service, request_id: str) -> str:
    with closing(sqlite3.connect(f"file:{service.data_dir / 'jobs.sqlite'}?mode=ro", uri=True)) as table:
        ((found,),) = table.execute("SELECT state FROM jobs WHERE id = ?", [request_id]).fetchall()
    return str(found)


def interruptible() -> None:
    """As in the foreground of a terminal, even if the tests run where interrupts are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def under_way(service: Service) -> list[str]:
    """Ids of the requests that have not ended."""
    with closing(sqlite3.connect(f"file:{service.data_dir / 'jobs.sqlite'}?mode=ro", uri=True)) as table:
        rows = table.execute("SELECT id FROM jobs WHERE finished_at IS NULL").fetchall()
    return [row[0] for row in rows]


@pytest.mark.long
def test_failures_are_reported_and_the_others_processed(service: Service, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    sources = [str(tmp_path / "text.mp4"), str(tmp_path / "none.mp4"), str(clip)]
    done = cli("remove", *sources, "-o", str(tmp_path), "--server", service.url)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "text.mp4: video_url:" in said
    assert "none.mp4: no such file" in said
    assert (tmp_path / "holiday-cutout.webm").is_file()


@pytest.mark.long
def test_an_unreachable_server(clip: Path) -> None:
    done = cli("remove", str(clip), "--server", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be reached" in " ".join(done.stderr.split())
