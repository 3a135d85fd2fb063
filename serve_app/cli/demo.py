"""`birefnet-serve demo`: starts the service, converts one clip to WebM and MP4, and draws a contact sheet."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console

from serve_app.cli.client import Server, cut_out, download, served
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
        files = {
            kind: asyncio.run(_convert(profile, clip, kind, out))
            for kind in (OutputType.WEBM, OutputType.MP4)
        }
        console.print("stopping …")
    from serve_app.cli.contact_sheet import contact_sheet

    sheet = out / "contact-sheet.png"
    contact_sheet(clip, files[OutputType.WEBM], sheet)
    console.print(f"contact sheet: {sheet}")
    console.print(f"finished in {time.perf_counter() - begun:.1f} s")


async def _convert(profile: Profile, clip: Path, kind: OutputType, out: Path) -> Path:
    """Runs one request over HTTP and returns the path of its output."""
    begun = time.perf_counter()
    server = Server(profile.url, profile.verify)
    with served(clip) as url:
        fields = {"video_url": url, "video_output_type": kind.value}
        video = (await cut_out(server, fields, kind.value, console))["video"]
    seconds = time.perf_counter() - begun
    path = out / str(video["file_name"])
    await download(server, video["url"], path)
    console.print(
        f"{path}: {video['width']}x{video['height']}, {video['num_frames']} frames, {video['fps']:g} frames/s, "
        f"{video['file_size'] / 1e6:.2f} MB, finished in {seconds:.1f} s ({video['num_frames'] / seconds:.1f} frames/s)"
    )
    return path
