"""`birefnet-serve remove`: removes the background of files and URLs, on a running server or a temporary one."""

from __future__ import annotations

import asyncio
import glob
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import Progress

from serve_app.cli.client import RequestFailed, Server, cut_out, download, progress_bars, served, upload
from serve_app.fal import OutputType
from serve_app.files.upload_names import content_type
from serve_app.local.service import temporary

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Options:
    """What `remove` was asked for.

    out: a file (one source) or a directory; None is the working directory.
    fields: the inputs of each request, without the source. jobs: requests under way at the same time.
    overwrite: replace outputs that exist, instead of skipping their sources.
    as_json: print a JSON object for each source instead of the paths written.
    """

    out: Path | None
    fields: dict[str, Any]
    jobs: int = 1
    overwrite: bool = False
    as_json: bool = False


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def remove(sources: Sequence[str], options: Options, server: Server | None, config: Path) -> int:
    """Processes all sources and returns the number of failures.

    server: None starts a temporary one. Raises `StartError` if that fails, and `KeyboardInterrupt` after Ctrl-C, which
    cancels the requests on the server.
    """
    with _server(server, config) as target, progress_bars(console) as bars:
        return asyncio.run(_all(_expanded(sources), options, target, bars))


@contextmanager
def _server(server: Server | None, config: Path) -> Iterator[Server]:
    if server is not None:
        yield server
        return
    console.print("starting a server …")
    with temporary(config) as profile:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray has put its own in its place
        yield Server(profile.url, profile.verify, local=True)


def _expanded(sources: Sequence[str]) -> list[str]:
    """The sources with directories and patterns replaced by the videos in them. What is neither stays as it is."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if is_url(source) or path.is_file():
            found.append(source)
            continue
        inside = path.iterdir() if path.is_dir() else map(Path, glob.glob(source, recursive=True))  # noqa: PTH207 (as shells do)
        videos = [str(item) for item in inside if item.is_file() and _is_video(item)]
        found += sorted(videos) or [source]
    return list(dict.fromkeys(found))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() == ".gif" or content_type(path.name).startswith("video/")


async def _all(sources: list[str], options: Options, server: Server, bars: Progress) -> int:
    several, running = len(sources) > 1, asyncio.Semaphore(options.jobs)
    claimed: set[Path] = set()

    async def one(source: str) -> bool:
        async with running:
            try:
                target = _target(source, options, several)
                if target in claimed:
                    raise RequestFailed(f"{target} is the output of another input: name the outputs apart")
                claimed.add(target)
                if target.exists() and not options.overwrite:
                    console.print(f"{source}: skipped, {target} exists (--overwrite replaces it)")
                    _report(source, options, {"skipped": str(target)})
                    return True
                _report(source, options, await _process(source, target, options.fields, server, bars))
            except RequestFailed as error:
                console.print(f"{source}: {error}", style="red")
                _report(source, options, {"error": str(error)})
                return False
            return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(source)) for source in sources]
    return sum(not task.result() for task in tasks)


def _report(source: str, options: Options, found: dict[str, Any]) -> None:
    """Prints what became of a source on standard output."""
    if options.as_json:
        print(json.dumps({"source": source, **found}), flush=True)
        return
    for key in ("video", "mask_video"):
        if key in found:
            print(found[key]["path"], flush=True)


async def _process(
    source: str, target: Path, fields: dict[str, Any], server: Server, bars: Progress
) -> dict[str, Any]:
    """The figures of the files written for one source, as in the reply, with the path of each."""
    with ExitStack() as stack:
        if is_url(source):
            url = source
        elif not Path(source).is_file():
            kind = "no video in this directory" if Path(source).is_dir() else "no such file"
            raise RequestFailed(kind)
        elif server.local:  # it fetches from this machine, so no upload is needed
            url = stack.enter_context(served(Path(source)))
        else:
            url = await upload(server, Path(source))
        reply = await cut_out(server, {"video_url": url, **fields}, _name(source), bars)
    mask = target.with_name(f"{target.stem.removesuffix('-cutout')}-mask{target.suffix}")
    written = {}
    for key, path in (("video", target), ("mask_video", mask)):
        if key in reply:
            path.parent.mkdir(parents=True, exist_ok=True)
            await download(server, reply[key]["url"], path)
            written[key] = {**reply[key], "path": str(path)}
    return written


def _target(source: str, options: Options, several: bool) -> Path:
    """The path of a source's output: in the directory `out`, or the file `out` itself."""
    out, extension = options.out, OutputType(options.fields["video_output_type"]).name.lower()
    name = f"{Path(_name(source)).stem or 'video'}-cutout.{extension}"
    if out is None:
        return Path(name)
    return out / name if several or out.is_dir() or not out.suffix else out


def _name(source: str) -> str:
    return Path(unquote(urlsplit(source).path)).name if is_url(source) else Path(source).name
