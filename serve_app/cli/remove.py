"""`birefnet-serve remove`: removes the background of files and URLs, on a running server or a temporary one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console

from serve_app.cli.client import RequestFailed, Server, cut_out, download, progress_bars, served, upload
from serve_app.local.service import temporary

console = Console(stderr=True)


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def remove(
    sources: Sequence[str], out: Path | None, fields: dict[str, Any], server: Server | None, config: Path
) -> int:
    """Processes each source, prints the paths written, one a line, and returns the number of failures.

    out: a file (one source) or a directory; None is the working directory.
    server: None starts a temporary one. Raises `StartError` if that fails.
    """
    failed = 0
    with _server(server, config) as target:
        for source in sources:
            try:
                for path in asyncio.run(_process(source, out, len(sources) > 1, fields, target)):
                    print(path, flush=True)
            except RequestFailed as error:
                console.print(f"{source}: {error}", style="red")
                failed += 1
    return failed


@contextmanager
def _server(server: Server | None, config: Path) -> Iterator[Server]:
    if server is not None:
        yield server
        return
    console.print("starting a server …")
    with temporary(config) as profile:
        yield Server(profile.url, profile.verify, local=True)


async def _process(
    source: str, out: Path | None, several: bool, fields: dict[str, Any], server: Server
) -> list[Path]:
    """Returns the files written for one source: the video and, if requested, its mask."""
    with ExitStack() as stack:
        if is_url(source):
            url = source
        elif not Path(source).is_file():
            raise RequestFailed("no such file")
        elif server.local:  # it fetches from this machine, so no upload is needed
            url = stack.enter_context(served(Path(source)))
        else:
            url = await upload(server, Path(source))
        bars = stack.enter_context(progress_bars(console))
        reply = await cut_out(server, {"video_url": url, **fields}, _name(source), bars)
    written = []
    for key, suffix in (("video", "cutout"), ("mask_video", "mask")):
        if key in reply:
            path = _target(source, out, several, suffix, Path(reply[key]["file_name"]).suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            await download(server, reply[key]["url"], path)
            written.append(path)
    return written


def _target(source: str, out: Path | None, several: bool, suffix: str, extension: str) -> Path:
    """The path of an output: in the directory `out`, or the file `out` itself."""
    name = f"{Path(_name(source)).stem or 'video'}-{suffix}{extension}"
    if out is None:
        return Path(name)
    if several or out.is_dir() or not out.suffix:
        return out / name
    return out if suffix == "cutout" else out.with_name(f"{out.stem}-mask{extension}")


def _name(source: str) -> str:
    return Path(unquote(urlsplit(source).path)).name if is_url(source) else Path(source).name
