"""What a version of `fal-client` is asked to do.

    python names.py fal_client_functions.py FUNCTION SHORT_CLIP_URL LONG_CLIP_URL

Nothing of this project is imported: it runs in the environment of that version.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import fal_client
import httpx
from reply import offered, tell

ENDPOINT = "fal-ai/birefnet/v2/video"
LARGE = 101 << 20  # the client uploads more than 100 MiB in parts
requests: list[str] = []
send = httpx.Client.send


def recorded(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
    requests.append(str(request.url))
    return send(self, request, **options)


def check_output(result: Any) -> None:
    video = result["video"]
    assert len(httpx.get(video["url"]).content) == video["file_size"], "the output has another size"


def run(short: str, long: str) -> None:
    check_output(fal_client.run(ENDPOINT, arguments={"video_url": short}))


def subscribe(short: str, long: str) -> None:
    updates: list[Any] = []
    result = fal_client.subscribe(
        ENDPOINT, arguments={"video_url": short}, with_logs=True, on_queue_update=updates.append
    )
    check_output(result)
    assert isinstance(updates[-1], fal_client.Completed), updates[-1]
    assert updates[-1].logs, "no logs"


def queue(short: str, long: str) -> None:
    handle = fal_client.submit(ENDPOINT, arguments={"video_url": short})
    check_output(handle.get())
    status = handle.status(with_logs=True)
    assert isinstance(status, fal_client.Completed) and status.logs, status


def events(short: str, long: str) -> None:
    handle = fal_client.submit(ENDPOINT, arguments={"video_url": short})
    last = list(handle.iter_events(with_logs=True))[-1]
    assert isinstance(last, fal_client.Completed), last


def cancel(short: str, long: str) -> None:
    offered(hasattr(fal_client.SyncRequestHandle, "cancel"))
    handle = fal_client.submit(ENDPOINT, arguments={"video_url": long})
    for update in handle.iter_events():
        if isinstance(update, fal_client.InProgress):
            break
    handle.cancel()
    status = httpx.get(handle.status_url, headers={"Authorization": "Key any:key"}).json()
    assert status["error_type"] == "client_cancelled", status


def error(short: str, long: str) -> None:
    try:
        fal_client.run(ENDPOINT, arguments={})
    except Exception as refused:
        assert "422" in str(refused) or "video_url" in str(refused), str(refused)
    else:
        raise AssertionError("no error is raised")


def arrives(upload: Any, source: Any, data: bytes, *kind: str) -> str | None:
    """The URL of an upload, None if it is not what was sent. Without the fallback of newer versions, which would hide
    a failure.
    """
    has_fallback = "fallback_repository" in inspect.signature(upload).parameters
    options: dict[str, Any] = {"fallback_repository": []} if has_fallback else {}
    url: str = upload(source, *kind, **options)
    return url if httpx.get(url).content == data else None


def upload(short: str, long: str) -> None:
    data = httpx.get(short).content
    url = arrives(fal_client.upload, data, data, "video/mp4")
    assert url, "the download differs"
    check_output(fal_client.subscribe(ENDPOINT, arguments={"video_url": url}))


def large_upload(short: str, long: str) -> str:
    """From a file and from memory, which are different code in the client."""
    data = bytes(range(256)) * (LARGE // 256)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large.webm"
        path.write_bytes(data)
        assert arrives(fal_client.upload_file, path, data), "the download differs"
    how = "in parts" if any("multipart" in url for url in requests) else "in one request"
    return how if arrives(fal_client.upload, data, data, "video/webm") else f"{how}, from a file only"


name, *clips = sys.argv[1:]
httpx.Client.send = recorded
tell(lambda: globals()[name](*clips))
