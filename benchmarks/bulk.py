"""Large files and the memory of the service: a slow reader of a large output, and a large upload.

    python -m benchmarks.bulk            # 1 GB each; the reader takes 1 MB/s (17 minutes)
    python -m benchmarks.bulk --read-s 60

Every process of a service that `birefnet-serve up` started is watched. The exit status is 1 when one of them grew by
more than 64 MB of its own (anonymous) memory; the kernel's page cache and the frames' shared memory are nobody's own.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.figures import Figures, Machine, Row, add_out
from benchmarks.pipeline import CLIP, ROOT
from benchmarks.tables import BULK
from serve_app.cli.client import served
from serve_app.files.signing import Signer
from tests.cluster.service import Service, command_of, descendants

GB = 10**9
MB = 10**6
MOST_GROWTH = 64 * MB
BLOCK = 100_000
RSS = re.compile(r"^RssAnon:\s+(\d+) kB", re.M)


class Watch:
    """The highest memory of each process since the first look, sampled five times a second."""

    def __init__(self, service: Service) -> None:
        self._pid = service.process.pid
        self._first: dict[int, int] = {}
        self._peak: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    @contextmanager
    def growing(self) -> Iterator[None]:
        self._first = self._peak = self._sizes()
        self._peak = dict(self._first)
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def growth(self) -> list[tuple[int, str]]:
        """Bytes and command of each process, the fastest-growing first."""
        grown = ((self._peak[pid] - self._first.get(pid, 0), command_of(pid)) for pid in self._peak)
        return sorted(grown, reverse=True)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            for pid, size in self._sizes().items():
                self._peak[pid] = max(size, self._peak.get(pid, 0))

    def _sizes(self) -> dict[int, int]:
        sizes = {}
        for pid in descendants(self._pid):
            try:
                found = RSS.search(Path(f"/proc/{pid}/status").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
            if found:
                sizes[pid] = int(found[1]) * 1024
        return sizes


def slow_reader(service: Service, size: int, read_s: float) -> Row:
    """Read an output at 1 MB/s for so long, and the rest as fast as it comes."""
    name = f"outputs/{uuid.uuid4()}/1/output.mp4"
    path = service.data_dir / "artifacts" / name
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    url = files_url(service) + Signer.load(None, service.data_dir).file_path(name)
    got, begun = 0, time.monotonic()
    with httpx.stream("GET", url, timeout=60, trust_env=False) as reply:
        for block in reply.raise_for_status().iter_bytes(BLOCK):
            got += len(block)
            ahead = got / MB - (time.monotonic() - begun)
            if ahead > 0 and got / MB < read_s:
                time.sleep(ahead)
    assert got == size
    slow = min(read_s, size / MB)
    return {
        "transfer": "slow download",
        "gigabytes": size / GB,
        "wall_s": time.monotonic() - begun,
        "slow_mb": slow,
    }


def upload(service: Service, size: int) -> Row:
    """One file in one request, as fast as it goes."""
    announced = {"content_type": "video/mp4", "file_name": "clip.mp4"}
    target = service.client.post("/rest/storage/upload/initiate", json=announced).raise_for_status().json()

    def blocks() -> Iterator[bytes]:
        block = bytes(MB)
        for _ in range(size // MB):
            yield block

    begun = time.monotonic()
    headers = {"Content-Type": "video/mp4", "Content-Length": str(size)}
    reply = httpx.put(target["upload_url"], content=blocks(), headers=headers, timeout=600, trust_env=False)
    reply.raise_for_status()
    head = httpx.head(target["file_url"], trust_env=False).raise_for_status()
    assert int(head.headers["Content-Length"]) == size
    return {
        "transfer": "upload",
        "gigabytes": size / GB,
        "wall_s": time.monotonic() - begun,
        "slow_mb": None,
    }


def files_url(service: Service) -> str:
    return str(service.client.post("/rest/storage/auth/token").raise_for_status().json()["base_url"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument(
        "--read-s", type=float, default=float("inf"), help="seconds at 1 MB/s; then as fast as it goes"
    )
    add_out(parser, "bulk")
    given = parser.parse_args()
    machine = Machine.here()
    size = int(given.gigabytes * GB) // MB * MB
    work: list[Callable[[Service], Row]] = [
        lambda service: upload(service, size),
        lambda service: slow_reader(service, size, given.read_s),
    ]
    rows = []
    with tempfile.TemporaryDirectory(prefix="birefnet-bulk-") as directory:
        service = Service.start(Path(directory) / "data", ROOT / "config" / "local.yaml")
        try:
            # The network is loaded beside the start, and is no part of what is measured.
            with served(CLIP) as url:
                service.cut_out(url).raise_for_status()
            for do in work:
                watch = Watch(service)
                with watch.growing():
                    row = do(service)
                rows.append(row | {"growth_mb": watch.growth()[0][0] / MB})
                print(BULK.markdown(rows[-1:]), flush=True)
                for grown, command in watch.growth()[:3]:
                    print(f"  +{grown / MB:.1f} MB  {command[:70]}", flush=True)
        finally:
            service.stop()
    Figures("bulk", {"gigabytes": given.gigabytes}, machine, rows).save(given.out)
    sys.exit(any(row["growth_mb"] > MOST_GROWTH / MB for row in rows))


if __name__ == "__main__":
    main()
