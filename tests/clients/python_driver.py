"""Runs one action with the official client and prints the outcome as one line of JSON, which the tests check.

    python python_driver.py ACTION SHORT_CLIP_URL LONG_CLIP_URL

The environment names the service: by the client's own variables, and by REST_URL and CDN_URL, for which the client has
only constants. Nothing of this project is imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fal_client
import httpx

ENDPOINT = "fal-ai/birefnet/v2/video"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SLOTS = 8  # more jobs than the service runs at a time
LARGE = 101 << 20  # the client sends more than 100 MiB in parts

Facts = dict[str, Any]


def main(action: str, short: str, long: str) -> None:
    for constant in ("REST_URL", "CDN_URL"):
        if constant in os.environ:
            setattr(fal_client.client, constant, os.environ[constant])
    print(json.dumps(ACTIONS[action](short, long)))


def seen(status: fal_client.Status) -> Facts:
    return {"state": type(status).__name__, **asdict(status)}


def failure(call: Callable[[], Any]) -> Facts | None:
    """The error that the client raised, or None."""
    try:
        call()
    except fal_client.FalClientHTTPError as error:
        return {
            "status": error.status_code,
            "detail": error.message,
            "error_type": error.error_type,
            "headers": {name.lower(): value for name, value in error.response_headers.items()},
        }
    return None


def download(url: str) -> Facts:
    """Without credentials, as a player would."""
    reply = httpx.get(url)
    return {"status": reply.status_code, "bytes": len(reply.content)}


def uploaded(url: str, data: bytes) -> Facts:
    """Downloads an upload and compares it with the original bytes."""
    reply = httpx.get(url)
    return {"url": url, "same": reply.content == data, "type": reply.headers["content-type"]}


def run(short: str, long: str) -> Facts:
    result = fal_client.run(ENDPOINT, {"video_url": short}, hint="here", start_timeout=300)
    return {"result": result, "file": download(result["video"]["url"])}


def submit(short: str, long: str) -> Facts:
    arguments = {"video_url": short, "output_mask": True, "video_output_type": "VP9 (.webm)"}
    handle = fal_client.submit(ENDPOINT, arguments, priority="low", hint="here", start_timeout=300)
    first = seen(handle.status())
    result = handle.get()
    rebuilt = fal_client.SyncClient().get_handle(ENDPOINT, handle.request_id)
    return {
        "handle": {name: getattr(handle, name) for name in ("request_id", "response_url", "status_url")},
        "first": first,
        "result": result,
        "completed": seen(handle.status(with_logs=True)),
        "without_logs": seen(handle.status()),
        "rebuilt": [seen(rebuilt.status(with_logs=True)), rebuilt.get()],
        "by_id": fal_client.result(ENDPOINT, handle.request_id),
        "late_cancel": failure(handle.cancel),
    }


def subscribe(short: str, long: str) -> Facts:
    updates: list[Facts] = []
    enqueued: list[str] = []
    result = fal_client.subscribe(
        ENDPOINT,
        {"video_url": short},
        with_logs=True,
        on_enqueue=enqueued.append,
        on_queue_update=lambda update: updates.append(seen(update)),
        client_timeout=200,
    )
    return {"enqueued": enqueued, "updates": updates, "result": result}


def inline(short: str, long: str) -> Facts:
    """`sync_mode`, with the mask, through the queue; a result that is not kept is returned once."""
    handle = fal_client.submit(ENDPOINT, {"video_url": short, "sync_mode": True, "output_mask": True})
    return {"result": handle.get(), "again": failure(handle.get)}


def events(short: str, long: str) -> Facts:
    """The asynchronous client."""

    async def follow() -> Facts:
        handle = await fal_client.submit_async(ENDPOINT, {"video_url": short})
        updates = [seen(update) async for update in handle.iter_events(with_logs=True)]
        result = await handle.get()
        rebuilt = await fal_client.AsyncClient().get_handle(ENDPOINT, handle.request_id)
        return {"updates": updates, "result": result, "rebuilt": await rebuilt.get()}

    return asyncio.run(follow())


def upload(short: str, long: str) -> Facts:
    """Uploads a file and bytes, with both clients, and through the repository that the client falls back to."""
    data = httpx.get(short).content
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "my clip.mp4"
        path.write_bytes(data)
        urls = [
            fal_client.upload_file(path, fallback_repository=[]),
            fal_client.upload(data, "video/mp4", "bytes.mp4", fallback_repository=[]),
            asyncio.run(fal_client.upload_file_async(path, fallback_repository=[])),
            fal_client.upload_file(path, repository="fal", fallback_repository=[]),
        ]
    result = fal_client.run(ENDPOINT, {"video_url": urls[0]})
    return {
        "uploads": [uploaded(url, data) for url in urls],
        "result": result,
        "file": download(result["video"]["url"]),
    }


def large_upload(short: str, long: str) -> Facts:
    data = bytes(range(256)) * (LARGE // 256)
    return uploaded(fal_client.upload(data, "video/webm", fallback_repository=[]), data)


def cancel(short: str, long: str) -> Facts:
    """Cancels a running job."""
    handle = fal_client.submit(ENDPOINT, {"video_url": long})
    for update in handle.iter_events():
        if isinstance(update, fal_client.InProgress):
            break
    handle.cancel()
    return {
        "request_id": handle.request_id,
        "after": seen(handle.status(with_logs=True)),
        "result": failure(handle.get),
        "again": failure(handle.cancel),
    }


def client_timeout(short: str, long: str) -> Facts:
    """The client cancels the job itself; its thread keeps polling until the job ends."""
    try:
        fal_client.subscribe(ENDPOINT, {"video_url": long}, client_timeout=4)
    except fal_client.FalClientTimeoutError as error:
        assert error.request_id is not None
        return {"timeout": error.timeout, "after": seen(fal_client.status(ENDPOINT, error.request_id))}
    return {}


def busy(short: str, long: str) -> Facts:
    """With every slot taken: queue positions, a missed start deadline, and cancelling a queued job."""
    running = [fal_client.submit(ENDPOINT, {"video_url": long}) for _ in range(SLOTS)]
    low = fal_client.submit(ENDPOINT, {"video_url": short}, priority="low")
    normal = fal_client.submit(ENDPOINT, {"video_url": short}, priority="normal")
    positions = {"low": seen(low.status()), "normal": seen(normal.status())}
    late = fal_client.submit(ENDPOINT, {"video_url": short}, start_timeout=1.5)
    facts = {"positions": positions, "late": failure(late.get), "late_status": seen(late.status())}
    low.cancel()
    facts["left"] = seen(low.status())
    for handle in (normal, *running):
        handle.cancel()
    return facts


def invalid(short: str, long: str) -> Facts:
    def subscribe(**arguments: Any) -> Facts | None:
        return failure(lambda: fal_client.subscribe(ENDPOINT, arguments, client_timeout=100))

    return {
        "run_missing": failure(lambda: fal_client.run(ENDPOINT, {})),
        "run_enum": failure(lambda: fal_client.run(ENDPOINT, {"video_url": short, "model": "Best"})),
        "queue_missing": subscribe(),
        "queue_enum": subscribe(video_url=short, video_quality="ultra"),
        "queue_source": subscribe(video_url="http://127.0.0.1:9/none.mp4"),
        "run_source": failure(lambda: fal_client.run(ENDPOINT, {"video_url": "data:video/mp4;base64,AAAA"})),
    }


def unknown(short: str, long: str) -> Facts:
    return {
        "status": failure(lambda: fal_client.status(ENDPOINT, UNKNOWN)),
        "result": failure(lambda: fal_client.result(ENDPOINT, UNKNOWN)),
        "cancel": failure(lambda: fal_client.cancel(ENDPOINT, UNKNOWN)),
    }


ACTIONS: dict[str, Callable[[str, str], Facts]] = {
    action.__name__: action
    for action in (
        run,
        submit,
        subscribe,
        inline,
        events,
        upload,
        large_upload,
        cancel,
        client_timeout,
        busy,
        invalid,
        unknown,
    )
}

if __name__ == "__main__":
    main(*sys.argv[1:])
