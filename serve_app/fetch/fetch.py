"""Fetches a source from an http(s) URL or a data URI into a file."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx

from serve_app.errors import DownloadFailed, FileTooLarge, StorageFull
from serve_app.fetch import data_uri as datauri
from serve_app.fetch.address_guard import (
    AddressRefused,
    GuardedBackend,
    HostNotFound,
    PortRefused,
    guarded_backend,
    guarded_client,
)
from serve_app.settings import FetchSettings

FLUSH_BYTES = 1 << 20
HEADERS = {
    "User-Agent": "birefnet-serve",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # videos do not compress, and sizes must be those of the file
}


async def fetch(url: str, out: Path, limits: FetchSettings, backend: GuardedBackend | None = None) -> int:
    """Writes the source at `url` to `out`, and returns its size in bytes.

    backend: restricts connections; by default as `limits` say.
    Raises `DownloadFailed`, `FileTooLarge` or `StorageFull`. On any failure, including cancellation, `out` is removed.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in ("http", "https", "data"):
        raise DownloadFailed("video_url must be an http:// or https:// URL or a data: URI.")
    with _target(out) as file:
        if scheme == "data":
            return await _unpack(url, file, limits)
        return await _download(url, file, limits, backend or guarded_backend(limits))


@contextmanager
def _target(out: Path) -> Iterator[BinaryIO]:
    """Opens the file to write, and removes it if the block fails."""
    try:
        with out.open("wb") as file:
            yield file
    except BaseException as error:
        out.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no space left to store the video: free space in the data directory") from error
        raise


async def _unpack(uri: str, file: BinaryIO, limits: FetchSettings) -> int:
    data = await asyncio.to_thread(datauri.decode, uri)
    if len(data) > limits.max_bytes:
        raise _too_large(limits)
    _check_space(file, len(data), limits)
    await asyncio.to_thread(file.write, data)
    return len(data)


async def _download(url: str, file: BinaryIO, limits: FetchSettings, backend: GuardedBackend) -> int:
    _check(url)
    try:
        async with asyncio.timeout(limits.total_s), _response(url, limits, backend) as response:
            return await _save(response, file, limits)
    except HostNotFound as error:
        raise DownloadFailed(
            f"Could not download the video: the host name {error.host!r} cannot be resolved. Check video_url."
        ) from error
    except AddressRefused as error:
        raise DownloadFailed(
            f"Could not download the video: {error.host!r} is not on the public internet, and this service does "
            "not read from private addresses. Use a public URL or a data URI, or let the operator allow it."
        ) from error
    except PortRefused as error:
        raise _failed(
            f"this service does not connect to port {error.port}", "use a URL with a usual port"
        ) from error
    except TimeoutError as error:
        raise _failed(
            f"it took longer than {limits.total_s:g} s", "use a faster host or a smaller file"
        ) from error
    except httpx.ConnectTimeout as error:
        raise _failed(f"no connection within {limits.connect_s:g} s", "check the host and port") from error
    except httpx.TimeoutException as error:
        raise _failed(f"the server sent nothing for {limits.read_s:g} s", "try again") from error
    except httpx.ConnectError as error:
        raise _failed(f"no connection ({_reason(error)})", "check the host and port") from error
    except httpx.InvalidURL as error:
        raise _failed(f"a redirect leads to an invalid URL ({error})", "use the final URL") from error
    except httpx.HTTPError as error:
        raise _failed(f"the transfer was interrupted ({_reason(error)})", "try again") from error


def _check(url: str) -> None:
    try:
        if not httpx.URL(url).host:
            raise httpx.InvalidURL("it has no host")
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: characters that cannot be encoded
        raise _failed(f"the URL is not valid ({error})", "check video_url") from error


@asynccontextmanager
async def _response(
    url: str, limits: FetchSettings, backend: GuardedBackend
) -> AsyncIterator[httpx.Response]:
    """The reply with the file, after redirects, whose bodies are not read."""
    timeout = httpx.Timeout(limits.read_s, connect=limits.connect_s)
    async with guarded_client(backend, timeout, HEADERS) as client:
        for _ in range(limits.max_redirects + 1):
            async with client.stream("GET", url) as response:
                if not response.has_redirect_location:
                    _check_reply(response)
                    yield response
                    return
                url = _redirected(response)
    raise _failed(f"more than {limits.max_redirects} redirects", "use the final URL")


def _redirected(response: httpx.Response) -> str:
    """The URL to which a reply redirects."""
    url = response.url.join(response.headers["Location"])
    if url.scheme not in ("http", "https") or not url.host:
        raise _failed("a redirect leads to something other than http or https", "use the final URL")
    return str(url)


def _check_reply(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        phrase = f"{response.status_code} {response.reason_phrase}".strip()
        raise _failed(f"the server answered {phrase}", "video_url must be readable without credentials")
    encodings = response.headers.get_list("Content-Encoding", split_commas=True)
    if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings):
        # A few hundred bytes can decode to gigabytes, before any limit is seen.
        raise _failed(
            f"the server compresses it ({', '.join(encodings)[:40]}), although the request forbids it",
            "serve the file as it is",
        )


async def _save(response: httpx.Response, file: BinaryIO, limits: FetchSettings) -> int:
    """Streams the body to disk. The HTTP parser already raises if it is shorter than its Content-Length."""
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(limits)
    _check_space(file, int(declared) if declared.isdecimal() else 0, limits)
    total = 0
    async for block in response.aiter_raw(FLUSH_BYTES):
        total += len(block)
        if total > limits.max_bytes:
            raise _too_large(limits)
        _check_space(file, len(block), limits)
        await asyncio.to_thread(file.write, block)
    return total


def _check_space(file: BinaryIO, size: int, limits: FetchSettings) -> None:
    status = os.fstatvfs(file.fileno())
    if size + limits.keep_free_bytes > status.f_bavail * status.f_frsize:
        raise StorageFull("no space left to store the video: free space in the data directory")


def _too_large(limits: FetchSettings) -> FileTooLarge:
    return FileTooLarge(
        f"The video is larger than the limit of {limits.max_bytes} bytes. Use a smaller file.",
        context={"max_size": limits.max_bytes},
    )


def _failed(what: str, remedy: str) -> DownloadFailed:
    return DownloadFailed(f"Could not download the video: {what}; {remedy}.")


def _reason(error: BaseException) -> str:
    """The message of the innermost cause, from the HTTP parser or the system."""
    cause: BaseException | None = error
    while cause is not None:
        error, cause = cause, cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
