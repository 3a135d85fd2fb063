"""Every program in the README and in docs/, run as it stands but for addresses and the clips' URLs.

A page is a session: its blocks run in order, in one directory, and what a shell block exports holds for those after it.
The directory is the home as well, with the service's data directory where a user would have it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import HERE
from tests.cluster.service import JOB_S, ROOT, Service
from tests.docs.pages import PAGES, Block, blocks_of

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FILE = re.compile(r"https://[^\s\"',\\]+/files/(?!upload)[^\s\"',\\]+")
PRINTS_LOGS = "update.logs"  # in a program that prints the log of its request


@dataclass
class Session:
    """The programs of a page. `node`: the interpreter for those in JavaScript."""

    service: Service
    addresses: dict[str, str]
    directory: Path
    node: str | None
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, block: Block) -> str:
        """The program's output; an exit status above 0 fails the test."""
        code = block.code
        for there, here in self.addresses.items():
            code = code.replace(there, here)
        if block.language == "sh":
            kept = self.directory / "environment"
            command = ["bash", "-euo", "pipefail", "-c", f"{code}\nenv --null > {kept}"]
        else:
            program = self.directory / {"python": "program.py", "js": "program.mjs"}[block.language]
            program.write_text(code)
            command = [sys.executable if block.language == "python" else str(self.node), program.name]
        done = subprocess.run(
            command, env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=JOB_S
        )
        assert done.returncode == 0, f"{block.where}\n{done.stdout}\n{done.stderr}"
        if block.language == "sh":
            pairs = (entry.partition("=") for entry in kept.read_text().split("\0") if entry)
            self.environment = {name: value for name, _, value in pairs}
        return done.stdout


@pytest.fixture
def session(
    request: pytest.FixtureRequest, service: Service, files_url: str, clips: tuple[str, str], tmp_path: Path
) -> Session:
    """A home directory with a clip, the profiles, the clients and the service's data."""
    (tmp_path / "clip.mp4").write_bytes(httpx.get(clips[0], trust_env=False).content)
    (tmp_path / ".birefnet-serve").symlink_to(service.data_dir)
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / ".curlrc").write_text("fail-with-body\n")  # an error reply is a failure
    addresses = {
        "https://127.0.0.1:8001": files_url,
        "http://127.0.0.1:8001": files_url,
        "http://127.0.0.1:8000": service.url,
        "127.0.0.1:8000": service.url.removeprefix("https://"),
        "https://example.org/clip.mp4": clips[0],
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        **dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), str(service.ca)),
    }
    try:
        node = request.getfixturevalue("node")
    except pytest.skip.Exception:
        node = None
    return Session(service, addresses, tmp_path, node, environment)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.is_run for b in blocks_of(page))], ids=lambda page: page.name
)
def test_the_programs_of_a_page(page: Path, session: Session) -> None:
    left_out = []
    for block in blocks_of(page):
        if not block.is_run:
            continue
        if block.language == "js" and session.node is None:
            left_out.append(block.where)
            continue
        output = session.run(block)
        check(session, block, output)
    if left_out:
        pytest.skip(f"the JavaScript client is not installed (make node): {', '.join(left_out)}")


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("sh", "false\ntrue"),
        ("sh", "false | cat"),
        ("sh", "echo $UNSET"),
        ("sh", "curl --silent http://127.0.0.1:8000/nothing"),
        ("python", "assert False"),
    ],
)
def test_a_program_that_fails_is_noticed(session: Session, language: str, code: str) -> None:
    with pytest.raises(AssertionError, match=r"README\.md:1"):
        session.run(Block(ROOT / "README.md", 1, language, code, None))


def check(session: Session, block: Block, output: str) -> None:
    """A program that makes a video has named one that can be downloaded, or written it."""
    if PRINTS_LOGS in block.code:
        assert "queued" in output.splitlines(), block.where
    if "/stream?" in block.code:
        assert sum(line.startswith("data: ") for line in output.splitlines()) >= 2, block.where
    if "birefnet-serve remove" in block.code:
        made = [session.directory / line for line in output.splitlines()]
        assert made and all(path.stat().st_size for path in made), block.where
    urls = FILE.findall(output)
    assert urls or "video_url" not in block.code, f"{block.where} names no file:\n{output}"
    for url in urls:
        reply = session.service.client.get(url)
        assert reply.status_code == 200, f"{block.where}: {url}"
        assert reply.headers["content-type"].startswith(("video/", "image/gif")), f"{block.where}: {url}"
