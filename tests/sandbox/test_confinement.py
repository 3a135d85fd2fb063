"""What a confined process cannot do, tried by one that is."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.sandbox.confinement import available
from tests.video.conftest import Clips

ROOT = Path(__file__).parents[2]

# argv: the file that is handed over, a directory, another file, a port that listens.
ATTEMPTS = """
import ctypes, mmap, os, resource, signal, socket, sys, threading
from pathlib import Path
from serve_app.sandbox.confinement import Confinement, available, confine

handed, directory, other, port = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
assert set(available()) == {"landlock", "seccomp"}
libc = ctypes.CDLL(None, use_errno=True)

def tried(name, attempt):
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(name, "fails")
    else:
        print(name, "succeeds")

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def connect():
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", port))

parent = os.getpid()
if os.fork() == 0:
    confine(Confinement((Path(handed),), (directory,), 256 << 20, 100, 1 << 20), parent)
    tried("read the handed file", lambda: open(handed).read())
    tried("write the handed file", lambda: open(handed, "w"))
    tried("read another file", lambda: open(other).read())
    tried("list a directory", lambda: os.listdir("/"))
    tried("write in the directory", lambda: (directory / "new").write_bytes(b"x"))
    tried("write beside it", lambda: (directory.parent / "new").write_bytes(b"x"))
    tried("link a file into it", lambda: os.link(other, directory / "link"))
    tried("make a symbolic link", lambda: os.symlink(other, directory / "symlink"))
    tried("write a large file", lambda: (directory / "new").write_bytes(bytes(2 << 20)))
    tried("take much memory", lambda: mmap.mmap(-1, 512 << 20))
    tried("connect", connect)
    tried("make a pair of sockets", socket.socketpair)
    tried("run a program", lambda: os.execv(sys.executable, [sys.executable, "-c", ""]))
    tried("fork", os.fork)
    tried("start a thread", lambda: threading.Thread(target=int).start())
    tried("end its parent", lambda: os.kill(parent, signal.SIGTERM))
    tried("end its parent by a thread's id", lambda: call(234, parent, parent, signal.SIGTERM))
    tried("trace its parent", lambda: call(101, 16, parent, 0, 0))
    tried("read its parent's memory", lambda: call(310, parent, None, 0, None, 0, 0))
    tried("raise its limits", lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)))
    tried("read its limits", lambda: resource.getrlimit(resource.RLIMIT_AS))
    tried("make shared memory", lambda: os.memfd_create("more"))
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""

MAY = {
    "read the handed file",
    "write in the directory",
    "start a thread",
    "read its limits",
}


def test_nothing_but_its_own_files(tmp_path: Path) -> None:
    assert set(available()) == {"landlock", "seccomp"}, "this system cannot show it"
    handed, other, directory = tmp_path / "handed", tmp_path / "other", tmp_path / "directory"
    handed.write_text("handed")
    other.write_text("canary")
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.settimeout(0)
        arguments = [str(handed), str(directory), str(other), str(canary.getsockname()[1])]
        run = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        with pytest.raises(BlockingIOError):
            canary.accept()
    outcomes = dict(line.rsplit(" ", 1) for line in run.stdout.splitlines())
    assert len(outcomes) == 22, run.stderr
    assert {name for name, outcome in outcomes.items() if outcome == "succeeds"} == MAY
    assert other.read_text() == "canary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "handed", "other"]


# As a kernel without Landlock answers. argv: a source.
WITHOUT_LANDLOCK = """
import errno, sys
from pathlib import Path
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), 444)  # landlock_create_ruleset
rules.load()
from serve_app.errors import SetupError
from serve_app.sandbox.sandbox import Sandbox
from serve_app.settings import SandboxSettings, SourceLimits
try:
    Sandbox(SandboxSettings(required=True), threads=1)
except SetupError as error:
    print(error)
sandbox = Sandbox(SandboxSettings(), threads=1)
print(sandbox.enforced)
print(len(sandbox.probe(Path(sys.argv[1]), SourceLimits(), lambda: False).pts))
"""


def test_what_is_missing_is_said(clip: Clips) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_LANDLOCK, str(clip("closed.mp4"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    refused, enforced, frames = run.stdout.splitlines()
    assert "`sandbox.required` is set, but this system has no landlock:" in refused
    assert "NOT no files but those handed to it" in enforced
    assert "; no network and no other programs (seccomp)" in enforced
    assert frames == "50"
