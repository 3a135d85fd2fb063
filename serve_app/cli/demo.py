"""`birefnet-serve demo`: starts the service, converts one clip to WebM and MP4, and draws a contact sheet."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from serve_app.cli.client import Server, cut_out, download, progress_bars, served
from serve_app.fal import OutputType
from serve_app.local.profile import Profile
from serve_app.local.service import temporary

console = Console()


def run_demo(clip: Path, out: Path, config: Path) -> None:
    """Writes both outputs and the contact sheet to `out`.

    Raises `StartError` if the service cannot start, `RequestFailed` if a request fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    console.print("starting the service …")
    with temporary(config) as profile:
        console.print(f"ready after {time.perf_counter() - begun:.1f} s at {profile.url}")
        webm = asyncio.run(_convert_both(profile, clip, out))
        console.print("stopping …")
    from serve_app.cli.contact_sheet import contact_sheet

    sheet = out / "contact-sheet.png"
    contact_sheet(clip, webm, sheet)
    console.print(f"contact sheet: {sheet}")
    console.print(f"finished in {time.perf_counter() - begun:.1f} s")


async def _convert_both(profile: Profile, clip: Path, out: Path) -> Path:
    """Makes a WebM and an MP4 of the clip at the same time and returns the path of the WebM."""
    server = Server(profile.url, profile.verify)
    with served(clip) as url, progress_bars(console) as bars:
        kinds = (OutputType.WEBM, OutputType.MP4)
        webm, _ = await asyncio.gather(*(_convert(server, url, kind, out, bars) for kind in kinds))
    return webm


async def _convert(server: Server, url: str, kind: OutputType, out: Path, bars: Progress) -> Path:
    """Runs one request over HTTP and returns the path of its output."""
    begun = time.perf_counter()
    fields = {"video_url": url, "video_output_type": kind.value}
    video = (await cut_out(server, fields, kind.value, bars))["video"]
    seconds = time.perf_counter() - begun
    path = out / str(video["file_name"])
    await download(server, video["url"], path)
    console.print(
        f"{path}: {video['width']}x{video['height']}, {video['num_frames']} frames, {video['fps']:g} frames/s, "
        f"{video['file_size'] / 1e6:.2f} MB, finished in {seconds:.1f} s ({video['num_frames'] / seconds:.1f} frames/s)"
    )
    return path
