"""What the `fal` SDK is asked to do.

    python names.py fal_sdk_functions.py FUNCTION SHORT_CLIP_URL LONG_CLIP_URL

REPOSITORY: where it uploads to, by its own name. Nothing of this project is imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import httpx
from fal import apps
from fal.toolkit import File
from reply import NotOffered, offered, tell

APP, PATH = "fal-ai/birefnet", "/v2/video"
LARGE = 101 << 20
requests: list[str] = []
open_url = urllib.request.OpenerDirector.open


def recorded(self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
    requests.append(getattr(request, "full_url", str(request)))
    return open_url(self, request, *arguments, **options)


def check_output(result: Any) -> None:
    video = result["video"]
    assert len(httpx.get(video["url"]).content) == video["file_size"], "the output has another size"


def run(short: str, long: str) -> None:
    """`apps.run` goes through the queue."""
    check_output(apps.run(APP, {"video_url": short}, path=PATH))


def subscribe(short: str, long: str) -> None:
    raise NotOffered


def queue(short: str, long: str) -> None:
    handle = apps.submit(APP, {"video_url": short}, path=PATH)
    check_output(handle.get())
    status = handle.status(logs=True)
    assert isinstance(status, apps.Completed) and status.logs, status


def events(short: str, long: str) -> None:
    handle = apps.submit(APP, {"video_url": short}, path=PATH)
    last = list(handle.iter_events(logs=True))
    assert last, "no events"


def cancel(short: str, long: str) -> None:
    offered(hasattr(apps.RequestHandle, "cancel"))
    handle = apps.submit(APP, {"video_url": long}, path=PATH)
    for update in handle.iter_events():
        if isinstance(update, apps.InProgress):
            break
    handle.cancel()
    status = handle.status()
    assert isinstance(status, apps.Completed) and status.error_type == "client_cancelled", status


def error(short: str, long: str) -> None:
    try:
        apps.run(APP, {}, path=PATH)
    except Exception as refused:
        assert "422" in str(refused) or "video_url" in str(refused), str(refused)
    else:
        raise AssertionError("no error is raised")


def uploaded(data: bytes, name: str, kind: str) -> str:
    """Without its fallback, which would hide a failure."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(data)
        repository: Any = os.environ["REPOSITORY"]
        url = str(File.from_path(path, content_type=kind, repository=repository, fallback_repository=[]).url)
    assert httpx.get(url).content == data, "the download differs"
    return url


def upload(short: str, long: str) -> None:
    url = uploaded(httpx.get(short).content, "clip.mp4", "video/mp4")
    check_output(apps.run(APP, {"video_url": url}, path=PATH))


def large_upload(short: str, long: str) -> str:
    uploaded(bytes(range(256)) * (LARGE // 256), "large.webm", "video/webm")
    return "in parts" if any("multipart" in url for url in requests) else "in one request"


name, *clips = sys.argv[1:]
urllib.request.OpenerDirector.open = recorded
tell(lambda: globals()[name](*clips))
