"""`birefnet-serve remove`: removes the background of files and URLs, on a running server or a temporary one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.progress import Progress

from serve_app.cli.client import RequestFailed, Server, copy, cut_out, download, progress_bars
from serve_app.cli.common import errors
from serve_app.cli.sources import STANDARD, expanded, name_of, url_of
from serve_app.fal import OutputType
from serve_app.local.service import temporary


@dataclass(frozen=True, slots=True)
class Options:
    """What `remove` was asked for.

    out: a file (one source), a directory, or - for standard output; None is the working directory.
    fields: the inputs of each request, without the source. jobs: requests under way at the same time.
    overwrite: replace outputs that exist, instead of skipping their sources.
    as_json: print a JSON object for each source instead of the paths written. stdout: where results go.
    """

    out: Path | None
    fields: dict[str, Any]
    jobs: int = 1
    overwrite: bool = False
    as_json: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    @property
    def to_stdout(self) -> bool:
        return self.out == Path(STANDARD)


class UsageError(Exception):
    """The arguments do not go together; the message says which."""


def remove(sources: Sequence[str], options: Options, server: Server | None, config: Path) -> int:
    """Processes all sources and returns the number of failures.

    server: None starts a temporary one. Raises `UsageError`, `StartError` if the server cannot start, and
    `KeyboardInterrupt` after Ctrl-C, which cancels the requests on the server.
    """
    videos = expanded(sources)
    _check(videos, options)
    # Ray prints to standard output, where only results belong.
    with (
        redirect_stdout(sys.stderr),
        _server(server, config) as target,
        progress_bars(errors) as bars,
    ):
        return asyncio.run(_all(videos, options, target, bars))


def _check(sources: Sequence[str], options: Options) -> None:
    """Whether standard input and output can be used as asked. Raises `UsageError`."""
    if STANDARD in sources and sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe a video into it, as in `< clip.mp4`")
    if not options.to_stdout:
        return
    if len(sources) > 1:
        raise UsageError(f"standard output takes one video, and these are {len(sources)}: name a directory")
    if options.fields["output_mask"]:
        raise UsageError("standard output takes one video: with --mask, name a file")
    if options.as_json:
        raise UsageError("standard output takes the video: leave out --json")
    if options.stdout.isatty():
        raise UsageError("standard output is a terminal: send it to a file or a pipe, as in `> subject.webm`")


@contextmanager
def _server(server: Server | None, config: Path) -> Iterator[Server]:
    if server is not None:
        yield server
        return
    errors.print("starting a server …")
    with temporary(config) as profile:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray has put its own in its place
        yield Server(profile.url, profile.verify, local=True)


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
                if target.exists() and not (options.overwrite or options.to_stdout):
                    errors.print(f"{source}: skipped, {target} exists (--overwrite replaces it)")
                    _report(source, options, {"skipped": str(target)})
                    return True
                _report(source, options, await _process(source, target, options, server, bars))
            except RequestFailed as error:
                errors.print(f"{source}: {error}", style="red")
                _report(source, options, {"error": str(error)})
                return False
            return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(source)) for source in sources]
    return sum(not task.result() for task in tasks)


def _report(source: str, options: Options, found: dict[str, Any]) -> None:
    """Prints what became of a source on standard output."""
    if options.as_json:
        print(json.dumps({"source": source, **found}), file=options.stdout, flush=True)
        return
    for key in ("video", "mask_video"):
        if key in found:
            print(found[key]["path"], file=options.stdout, flush=True)


async def _process(
    source: str, target: Path, options: Options, server: Server, bars: Progress
) -> dict[str, Any]:
    """The figures of the files written for one source, as in the reply, with the path of each."""
    async with url_of(source, server) as url:
        reply = await cut_out(server, {"video_url": url, **options.fields}, name_of(source), bars)
    if options.to_stdout:
        await _to_stdout(server, reply["video"]["url"], options.stdout)
        return {}
    mask = target.with_name(f"{target.stem.removesuffix('-cutout')}-mask{target.suffix}")
    written = {}
    for key, path in (("video", target), ("mask_video", mask)):
        if key in reply:
            path.parent.mkdir(parents=True, exist_ok=True)
            await download(server, reply[key]["url"], path)
            written[key] = {**reply[key], "path": str(path)}
    return written


async def _to_stdout(server: Server, url: str, stdout: TextIO) -> None:
    try:
        await copy(server, url, stdout.buffer)
        stdout.buffer.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # nor can the interpreter flush at its end
        raise RequestFailed("standard output was closed before the video was written") from error


def _target(source: str, options: Options, several: bool) -> Path:
    """The path of a source's output: in the directory `out`, or the file `out` itself."""
    out, extension = options.out, OutputType(options.fields["video_output_type"]).name.lower()
    name = f"{Path(name_of(source)).stem or 'video'}-cutout.{extension}"
    if out is None:
        return Path(name)
    return out / name if several or out.is_dir() or not out.suffix else out
