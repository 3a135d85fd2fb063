"""Memory of the whole service under a 10-minute clip beside a 1-minute clip, for each type of output.

    python -m benchmarks.memory
    python -m benchmarks.memory --types mp4 gif --minutes 1 5

What is added up is the proportional set size of every process of a service that `birefnet-serve up` started, with
Ray's own; a page that several share counts once, so the frames in the object store do too. The pictures are small and
the matte costs nothing: what could grow with the length is everything else. Prints one JSON object; the exit status is
1 when the longer clip's peak is more than 5 % above the shorter one's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_app.cli.client import served
from serve_app.fal import OutputType, Quality, WriteMode
from tests.cluster.light import ENVIRONMENT
from tests.cluster.service import Service, descendants
from tests.video.clips import X264, Clip, make

MOST = 1.05
FPS, WIDTH, HEIGHT = 25, 64, 48
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.M)


class Peak:
    """The highest sum of PSS over a process and all below it, sampled twice a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.bytes = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=[over])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look(self, over: threading.Event) -> None:
        while not over.wait(0.5):
            self.bytes = max(self.bytes, sum(map(pss, descendants(self._pid))))


def pss(pid: int) -> int:
    try:
        found = PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0


def peak_of(service: Service, clip: Path, output_type: OutputType, frames: int) -> int:
    """Bytes, while a job runs that must bring out all frames."""
    peak = Peak(service.process.pid)
    with served(clip) as url, peak.watched():
        reply = service.client.post(
            "/fal-ai/birefnet/v2/video",
            json={
                "video_url": url,
                "video_output_type": output_type.value,
                "video_quality": Quality.LOW.value,
                "video_write_mode": WriteMode.FAST.value,
            },
            timeout=None,
        )
    assert reply.status_code == 200, reply.text
    assert reply.json()["video"]["num_frames"] == frames
    return peak.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="+", choices=[kind.name.lower() for kind in OutputType])
    parser.add_argument("--minutes", nargs=2, type=float, default=(1, 10), metavar=("SHORT", "LONG"))
    given = parser.parse_args()
    kinds = [kind for kind in OutputType if not given.types or kind.name.lower() in given.types]
    figures = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        clips = []
        for minutes in given.minutes:
            frames = round(minutes * 60 * FPS)
            clip = Clip(
                "", options=X264, width=WIDTH, height=HEIGHT, frames=frames, audio="aac", audio_layout="mono"
            )
            clips.append((make(directory / f"{minutes:g}.mp4", clip), frames))
        service = Service.start(directory / "data", environment=ENVIRONMENT)
        try:
            for kind in kinds:
                peak_of(service, clips[0][0], kind, clips[0][1])  # so that both find the processes warm
                short, long = (peak_of(service, clip, kind, frames) for clip, frames in clips)
                figures[kind.name.lower()] = {
                    "short_mb": round(short / 1e6, 1),
                    "long_mb": round(long / 1e6, 1),
                    "ratio": round(long / short, 4),
                }
                print(kind.name.lower(), figures[kind.name.lower()], file=sys.stderr)
        finally:
            service.stop()
    print(json.dumps({"minutes": list(given.minutes), "peaks": figures}))
    sys.exit(any(figure["ratio"] > MOST for figure in figures.values()))


if __name__ == "__main__":
    main()
