"""Receives uploads, whole or in parts, and streams them through a scratch file into the artifact store.

A part is an artifact whose name contains its number and digest; the names of uploads and parts contain their expiry.
No state of an upload is kept in memory or in a table: a restarted server continues it, a part sent twice replaces
nothing, and completion reads exactly the parts that the client lists.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from starlette.concurrency import run_in_threadpool  # a large pool: an upload may occupy a thread throughout

from serve_app.artifacts.directory import translated_disk_errors
from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.files.signing import Purpose, Signer
from serve_app.files.upload_names import content_type, expiry, new_upload, parts_of, staging
from serve_app.settings import UploadSettings

TOKEN_S = 3600.0  # lifetime of a token for uploads
PUT_S = 3600.0  # … of the URL for one PUT, which must start within it
PARTS_S = 86400.0  # … of a multipart upload
MAX_PARTS = 10_000
BUFFER_BYTES = 1 << 20
REPLACING = 64  # parts that may be replaced at a time

_ETAG = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


class UploadRefused(Exception):
    """An upload is refused: HTTP status, machine-readable type, and message."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to write the upload `name` until `expires`, as the claims of a token."""

    name: str
    account: str | None
    expires: int

    @classmethod
    def read(cls, signer: Signer, purpose: Purpose, token: str) -> Self:
        """The grant in `token`. Raises `TokenRejected` if it is invalid or expired."""
        claims = signer.claims(purpose, token)
        return cls(claims["name"], claims["account"], claims["exp"])

    @property
    def parts(self) -> str:
        """The prefix of its parts."""
        return parts_of(self.name, self.expires)


def put_token(signer: Signer, name: str, account: str | None) -> str:
    """A token that allows writing the upload `name` with one PUT."""
    return signer.token(Purpose.PUT, {"name": name, "account": account}, PUT_S)


def parts_token(signer: Signer, name: str, account: str | None) -> str:
    """A token that allows writing the upload `name` in parts."""
    return signer.token(Purpose.PARTS, {"name": name, "account": account}, PARTS_S)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as a stream, and its declared length."""

    chunks: AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class _Draft:
    path: Path
    etag: str


class Uploads:
    """Writes uploads into the store. An interrupted upload leaves nothing behind.

    Methods raise `UploadRefused` for invalid, too large or stalled uploads, and `StorageFull` for a lack of space.
    """

    def __init__(self, artifacts: Artifacts, limits: UploadSettings) -> None:
        self._artifacts = artifacts
        self._limits = limits
        self._replacing = [asyncio.Lock() for _ in range(REPLACING)]
        self._expected: dict[
            Path, int
        ] = {}  # declared bytes of uploads under way that are not on the disk yet

    async def add(self, file_name: str | None, kind: str | None, lifetime_s: float | None, body: Body) -> str:
        """Stores a new file, and returns its name. Its lifetime starts at the end of the upload."""
        async with self._received(body) as draft:
            name = new_upload(file_name, kind, expiry(lifetime_s))
            await self._store(name, draft)
            return name

    async def put(self, grant: Grant, body: Body) -> None:
        """Stores the granted file."""
        async with self._received(body) as draft:
            await self._store(grant.name, draft)

    async def put_part(self, grant: Grant, number: int, body: Body) -> str:
        """Stores a part in place of what was uploaded under its number before, and returns its etag."""
        if not 1 <= number <= MAX_PARTS:
            raise UploadRefused(
                400, "invalid_part", f"Part numbers range from 1 to {MAX_PARTS}, not {number}."
            )
        async with self._received(body) as draft:
            place = _number(grant, number)
            async with self._replacing[hash(place) % len(self._replacing)]:
                await run_in_threadpool(self._artifacts.delete_prefix, place)
                await self._store(_part(grant, number, draft.etag), draft)
            return draft.etag

    async def complete(self, grant: Grant, etags: Mapping[int, str]) -> None:
        """Joins the parts, given by number and etag, into the granted file."""
        if sorted(etags) != list(range(1, len(etags) + 1)) or not etags:
            raise UploadRefused(400, "invalid_part", "List every part from 1 to the last one.")
        parts = [_part(grant, number, _bare_etag(etags[number])) for number in sorted(etags)]
        await run_in_threadpool(self._join, grant, parts)

    async def _store(self, name: str, draft: _Draft) -> None:
        kind = content_type(name)
        await run_in_threadpool(self._artifacts.put_file, name, draft.path, content_type=kind)

    def _join(self, grant: Grant, parts: list[str]) -> None:
        try:
            size = sum(self._artifacts.size(part) for part in parts)
            self._check_size(size, self._artifacts.free_bytes())
            with self._artifacts.scratch(staging()) as directory, translated_disk_errors(grant.name):
                whole = directory / "whole"
                with whole.open("wb") as target:
                    for part in parts:
                        with self._artifacts.local_path(part, keep=False) as path, path.open("rb") as source:
                            shutil.copyfileobj(source, target, BUFFER_BYTES)
                self._artifacts.put_file(grant.name, whole, content_type=content_type(grant.name))
        except FileNotFoundError as error:
            # A client whose reply was lost sends the request again after the parts were joined and deleted.
            if self._artifacts.exists(grant.name):
                return
            raise UploadRefused(
                400, "invalid_part", "A part was not uploaded, or its etag differs. Upload it again."
            ) from error
        self._artifacts.delete_prefix(grant.parts)

    def _check_size(self, size: int, free: int | None = None) -> None:
        """Refuses `size` more bytes if they are too many for one file, or for the `free` ones less those promised."""
        if size > self._limits.max_bytes:
            raise UploadRefused(
                413,
                "file_too_large",
                f"The file is larger than the limit of {self._limits.max_bytes} bytes.",
            )
        promised = sum(self._expected.values()) + self._limits.keep_free_bytes
        if free is not None and size + promised > free:
            raise StorageFull("no space left to store an upload: free space in the artifact store")

    @asynccontextmanager
    async def _received(self, body: Body) -> AsyncIterator[_Draft]:
        """The body in a file that is deleted after the block, unless it was stored."""
        async with _in_threads(self._artifacts.scratch(staging())) as directory:
            path = directory / "body"
            free = await run_in_threadpool(self._artifacts.free_bytes)
            self._check_size(body.length or 0, free)
            self._expected[path] = body.length or 0
            try:
                yield _Draft(path, await self._write(path, body))
            finally:
                del self._expected[path]

    async def _write(self, path: Path, body: Body) -> str:
        digest = hashlib.blake2b(digest_size=16)
        size = 0
        with path.open("wb", buffering=0) as file:

            def flush(data: bytes) -> None:
                with translated_disk_errors("an upload"):
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                digest.update(data)

            buffer = bytearray()
            while chunk := await self._next(body.chunks):
                size += len(chunk)
                self._check_size(size)
                buffer += chunk
                if len(buffer) >= BUFFER_BYTES:
                    await run_in_threadpool(flush, bytes(buffer))
                    buffer.clear()
                    if body.length is None:
                        self._check_size(0, await run_in_threadpool(self._artifacts.free_bytes))
                    else:
                        self._expected[path] = max(0, body.length - size)
            await run_in_threadpool(flush, bytes(buffer))
        return digest.hexdigest()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await anext(chunks, b"")
        except TimeoutError as error:
            raise UploadRefused(
                408,
                "upload_stalled",
                f"No data arrived for {self._limits.idle_s:g} seconds. Upload the file again.",
            ) from error


@asynccontextmanager
async def _in_threads(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enters and exits a blocking context (here: removing gigabytes) in threads."""
    value = await run_in_threadpool(context.__enter__)
    try:
        yield value
    finally:
        await run_in_threadpool(context.__exit__, None, None, None)


def _part(grant: Grant, number: int, etag: str) -> str:
    return f"{_number(grant, number)}/{etag}"


def _number(grant: Grant, number: int) -> str:
    """The prefix of what was uploaded as this part: one file, named by its etag."""
    return f"{grant.parts}/{number:05d}"


def _bare_etag(etag: str) -> str:
    """An etag without its quotes."""
    bare = etag.strip().removeprefix("W/").strip('"')
    if not _ETAG.fullmatch(bare):
        raise UploadRefused(400, "invalid_part", "An etag is not in the form that this server returned.")
    return bare
