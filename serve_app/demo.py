"""The demo: the service up, one clip to a transparent WebM and an MP4, a contact sheet, everything stopped."""

from __future__ import annotations

import asyncio
import base64
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serve_app.local import Profile, StartError, free_port, running
from serve_app.protocols import OutputType

ENDPOINT = "/fal-ai/birefnet/v2/video"
console = Console()


def run_demo(clip: Path, out: Path, config: Path) -> None:
    """Raises StartError when the service cannot start or refuses the clip."""
    out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="birefnet-demo-") as data:
        profile = Profile.load(
            config, free_port(), data_dir=Path(data), files={"host": "127.0.0.1", "port": free_port()}
        )
        console.print("starting the service …")
        with running(profile):
            console.print(f"ready after {time.perf_counter() - begun:.1f} s at {profile.url}")
            files = {
                kind: asyncio.run(_cut_out(profile, clip, kind, out))
                for kind in (OutputType.WEBM, OutputType.MP4)
            }
            console.print("stopping …")
    from serve_app.sheet import contact_sheet

    sheet = out / "contact-sheet.png"
    contact_sheet(clip, files[OutputType.WEBM], sheet)
    console.print(f"contact sheet: {sheet}")
    console.print(f"all done in {time.perf_counter() - begun:.1f} s")


async def _cut_out(profile: Profile, clip: Path, kind: OutputType, out: Path) -> Path:
    """One request over HTTP, its progress on the screen, its output in `out`."""
    source = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    begun = time.perf_counter()
    async with httpx.AsyncClient(base_url=profile.url, timeout=None, trust_env=False) as client:
        request = client.post(ENDPOINT, json={"video_url": source, "video_output_type": kind.value})
        reply = await _watched(asyncio.ensure_future(request), profile, kind)
        if reply.status_code != 200:
            raise StartError(f"the service answered {reply.status_code}: {reply.text}")
        video: dict[str, Any] = reply.json()["video"]
        seconds = time.perf_counter() - begun
        path = out / str(video["file_name"])
        path.write_bytes((await client.get(video["url"])).raise_for_status().content)
    console.print(
        f"{path}: {video['width']}x{video['height']}, {video['num_frames']} frames, {video['fps']:g} frames/s, "
        f"{video['file_size'] / 1e6:.2f} MB, made in {seconds:.1f} s ({video['num_frames'] / seconds:.1f} frames/s)"
    )
    return path


async def _watched(
    request: asyncio.Future[httpx.Response], profile: Profile, kind: OutputType
) -> httpx.Response:
    """Show the job's progress, as the job table has it, until the request is answered."""
    from serve_app.jobs.sql import SqlJobStore

    store = SqlJobStore(profile.settings.database_url)
    await store.open()
    before = {job.id for job in await store.recent(1)}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} frames"),
    )
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(kind.value, total=None)
            told = ""
            while not request.done():
                for job in await store.recent(1):
                    if job.id in before:
                        continue
                    step = job.progress
                    bar.update(task, completed=step.frames_done, total=step.frames_total or None)
                    if step.message and step.message != told:
                        told = step.message
                        bar.console.print(f"  {step.stage}: {told}")
                await asyncio.wait([request], timeout=0.25)
    finally:
        await store.close()
    return request.result()
