"""The programs in the README's "Use it from your fal code", run with only addresses and the clip's name replaced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import HERE
from tests.cluster.service import JOB_S, ROOT, Service

pytestmark = pytest.mark.cluster

SECTION = re.compile(r"## Use it from your fal code\n(.*?)\n## ", re.S)
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def programs(language: str) -> list[str]:
    found = SECTION.search((ROOT / "README.md").read_text())
    assert found is not None
    return [code for name, code in BLOCK.findall(found[1]) if name == language]


def adapted(code: str, service: Service, files_url: str, clips: tuple[str, str]) -> str:
    """Replaces the README's addresses by those of this service."""
    replacements = {
        "https://127.0.0.1:8001": files_url,
        "http://127.0.0.1:8000": service.url,
        "127.0.0.1:8000": service.url.removeprefix("https://"),
        "https://example.org/clip.mp4": clips[0],
        "~/.birefnet-serve": str(service.data_dir),
        "--silent": "--silent --cacert $SSL_CERT_FILE",
    }
    for documented, actual in replacements.items():
        code = code.replace(documented, actual)
    return code


def run(command: list[str], service: Service, directory: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(service.ca), **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=JOB_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


@pytest.fixture
def directory(tmp_path: Path, clips: tuple[str, str]) -> Path:
    """A directory that contains clip.mp4."""
    (tmp_path / "clip.mp4").write_bytes(httpx.get(clips[0], trust_env=False).content)
    return tmp_path


def check_output(service: Service, url: str, kind: str) -> None:
    assert service.client.get(url).headers["content-type"] == kind


def test_python(service: Service, files_url: str, clips: tuple[str, str], directory: Path) -> None:
    exports = next(code for code in programs("sh") if "FAL_QUEUE_RUN_HOST" in code)
    (program,) = programs("python")
    (directory / "program.py").write_text(adapted(program, service, files_url, clips))
    script = adapted(exports, service, files_url, clips) + f"{sys.executable} program.py"
    *log, url = run(["bash", "-euc", script], service, directory)
    assert "queued" in log
    check_output(service, url, "video/webm")


def test_javascript(
    node: str, service: Service, files_url: str, clips: tuple[str, str], directory: Path
) -> None:
    (program,) = programs("js")
    (directory / "program.mjs").write_text(adapted(program, service, files_url, clips))
    (directory / "node_modules").symlink_to(HERE / "node_modules")
    *log, url = run([node, "program.mjs"], service, directory, NODE_EXTRA_CA_CERTS=str(service.ca))
    assert "queued" in log
    check_output(service, url, "video/mp4")


def test_curl(service: Service, files_url: str, clips: tuple[str, str], directory: Path) -> None:
    program = next(code for code in programs("sh") if "status_url" in code)
    lines = run(["bash", "-euc", adapted(program, service, files_url, clips)], service, directory)
    assert sum(line.startswith("data: ") for line in lines) >= 2
    url = re.search(r'"url":\s*"([^"]+)"', lines[-1])
    assert url is not None
    check_output(service, url[1], "video/mp4")
