"""What `remove` takes: files, directories, patterns, URLs, standard input."""

from __future__ import annotations

import asyncio
import glob
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from serve_app.cli.client import RequestFailed, Server, served, upload
from serve_app.files.upload_names import content_type

STANDARD = "-"  # standard input as a source, standard output as a target


def expanded(sources: Sequence[str]) -> list[str]:
    """The sources with directories and patterns replaced by the videos in them. What is neither stays as it is."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if source == STANDARD or is_url(source) or path.is_file():
            found.append(source)
            continue
        inside = path.iterdir() if path.is_dir() else map(Path, glob.glob(source, recursive=True))  # noqa: PTH207 (as shells do)
        videos = [str(item) for item in inside if item.is_file() and _is_video(item)]
        found += sorted(videos) or [source]
    return list(dict.fromkeys(found))


def name_of(source: str) -> str:
    """The file name of a source, without directories."""
    if source == STANDARD:
        return "stdin"
    return Path(unquote(urlsplit(source).path)).name if is_url(source) else Path(source).name


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


@asynccontextmanager
async def url_of(source: str, server: Server) -> AsyncIterator[str]:
    """A URL from which the service can fetch the source, for as long as the block lasts. Raises `RequestFailed`."""
    if is_url(source):
        yield source
    elif source == STANDARD:
        with TemporaryDirectory(prefix="birefnet-stdin-") as directory:
            path = Path(directory) / "stdin"
            with path.open("wb") as file:
                await asyncio.to_thread(shutil.copyfileobj, sys.stdin.buffer, file)
            if not path.stat().st_size:
                raise RequestFailed("standard input is empty")
            async with _url_of_file(path, server) as url:
                yield url
    elif Path(source).is_file():
        async with _url_of_file(Path(source), server) as url:
            yield url
    else:
        raise RequestFailed("no video in this directory" if Path(source).is_dir() else "no such file")


@asynccontextmanager
async def _url_of_file(path: Path, server: Server) -> AsyncIterator[str]:
    if server.local:  # it fetches from this machine, so no upload is needed
        with served(path) as url:
            yield url
    else:
        yield await upload(server, path)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() == ".gif" or content_type(path.name).startswith("video/")
