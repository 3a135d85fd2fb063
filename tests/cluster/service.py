"""The real application as a user starts it: `birefnet-serve up` in a separate process."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.client import HTTPConnection, HTTPSConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from serve_app.fal import VENDOR_NAMES
from serve_app.local.certs import CertFiles, make_certificates
from serve_app.local.profile import free_port

ROOT = Path(__file__).parents[2]
ENDPOINT = "/fal-ai/birefnet/v2/video"
JOB_S = 240.0


@dataclass
class Service:
    """A running service. `client` talks to its HTTP port; `ca` is what its clients must trust."""

    data_dir: Path
    process: subprocess.Popen[str]
    url: str
    ca: Path | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else True
        self.client = httpx.Client(base_url=self.url, timeout=JOB_S, verify=verify, trust_env=False)

    @classmethod
    def start(
        cls,
        data_dir: Path,
        config: Path = ROOT / "config" / "local.yaml",
        tls: bool = False,
        names: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Service:
        """Starts a service. `names`: on one port, under the vendor's host names too."""
        command = [sys.executable, "-m", "serve_app.cli.main", "up", "--config", str(config)]
        command += ["--port", str(free_port()), "--data-dir", str(data_dir)]
        command += ["--names"] if names else ["--files-port", str(free_port())]
        certs = CertFiles(data_dir / "tls")
        if tls:
            make_certificates(certs, VENDOR_NAMES if names else ())
            command.append("--tls")
        with (data_dir.parent / f"{data_dir.name}.log").open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        scheme = "https" if tls else "http"
        if not line.startswith(f"ready {scheme}://127.0.0.1:"):
            process.terminate()
            rest, _ = process.communicate(timeout=60)
            raise AssertionError(f"the service did not start: {line}{rest}{Path(log.name).read_text()}")
        return cls(data_dir, process, line.split()[1], certs.ca if tls else None)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it as a supervisor or Ctrl-C would, and returns the exit status."""
        self.client.close()
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        """Kills every process of the service at once, as a power cut would."""
        self.client.close()
        pids = [self.process.pid, *descendants(self.process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # otherwise the others would react to the first deaths
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def cut_out(self, video_url: str, **fields: Any) -> httpx.Response:
        return self.client.post(ENDPOINT, json={"video_url": video_url, **fields})

    @contextmanager
    def unfinished_run(self, video_url: str, headers: Mapping[str, str] | None = None) -> Iterator[None]:
        """A synchronous request that has been sent; where the block ends, its client hangs up."""
        url = httpx.URL(self.url)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca)
            connection: HTTPConnection = HTTPSConnection(url.host, url.port, context=context)
        else:
            connection = HTTPConnection(url.host, url.port)
        with closing(connection):
            connection.request("POST", ENDPOINT, json.dumps({"video_url": video_url}), dict(headers or {}))
            yield

    def download(self, reply: httpx.Response, directory: Path) -> Path:
        """Downloads the video of a successful reply."""
        assert reply.status_code == 200, reply.text
        video = reply.json()["video"]
        path = directory / f"{video['url'].split('/')[-3]}-{video['file_name']}"
        path.write_bytes(self.client.get(video["url"]).raise_for_status().content)
        return path

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of a deployment's replicas, of this service alone."""
        title = re.compile(rf"ray::ServeReplica:birefnet:{deployment}(?![\w-])")
        return [pid for pid in descendants(self.process.pid) if title.match(command_of(pid))]

    def leftovers(self) -> list[str]:
        """Files in the data directory besides the job table, logs, keys, compiled networks and finished outputs."""
        kept = ("jobs.sqlite", "secret", "webhook", "logs/", "tls/", "artifacts/outputs/")
        files = (  # directories may vanish while they are walked
            (Path(top) / name).relative_to(self.data_dir).as_posix()
            for top, _, names in os.walk(self.data_dir)
            for name in names
        )
        return sorted(
            name for name in files if not name.startswith(kept) and not fnmatch(name, "engines/*.blob")
        )


@contextmanager
def running_service(
    data_dir: Path, tls: bool = False, names: bool = False, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """A service that is stopped on exit and must leave no process behind."""
    service = Service.start(data_dir, tls=tls, names=names, environment=environment)
    yield service
    started = descendants(service.process.pid)
    assert len(started) > 5
    assert service.stop() == 0
    assert [pid for pid in started if is_running(pid)] == []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


class MediaServer:
    """Serves the files of a directory over HTTP, on loopback."""

    def __init__(self, directory: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(directory))

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
