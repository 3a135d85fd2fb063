"""Taking uploads in: whole or in parts, streamed through a scratch file into the artifact store.

A part is an artifact whose name holds its number and digest, and the names of uploads and parts hold their expiry. So
nothing of an upload is kept in memory or in a table: a restarted server goes on with it, a part sent twice replaces
nothing, and completing looks for exactly the parts that the client names.
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

from starlette.concurrency import run_in_threadpool  # many threads: one may hold its for a whole upload

from serve_app.artifacts.directory import full_disk
from serve_app.artifacts.store import Artifacts
from serve_app.errors import StorageFull
from serve_app.files.signing import Purpose, Signer
from serve_app.files.upload_names import content_type, expiry, new_upload, parts_of, staging
from serve_app.settings import UploadSettings

TOKEN_S = 3600.0  # how long a token for uploads is good
PUT_S = 3600.0  # … the URL for one PUT, until which its upload must have begun
PARTS_S = 86400.0  # … an upload in parts
MOST_PARTS = 10_000
BUFFER = 1 << 20

_ETAG = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


class UploadRefused(Exception):
    """An upload that cannot be taken: an HTTP status, a type for programs and a message for people."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to write the upload `name`, until `expires`; a token says so to the file server."""

    name: str
    account: str | None
    expires: int

    @classmethod
    def read(cls, signer: Signer, purpose: Purpose, token: str) -> Self:
        claims = signer.claims(purpose, token)
        return cls(claims["name"], claims["account"], claims["exp"])

    @property
    def parts(self) -> str:
        """Where its parts lie."""
        return parts_of(self.name, self.expires)


def put_token(signer: Signer, name: str, account: str | None) -> str:
    """A token for writing the upload `name` by one PUT."""
    return signer.token(Purpose.PUT, {"name": name, "account": account}, PUT_S)


def parts_token(signer: Signer, name: str, account: str | None) -> str:
    """A token for writing the upload `name` in parts."""
    return signer.token(Purpose.PARTS, {"name": name, "account": account}, PARTS_S)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as it arrives, and how long it says that it is."""

    chunks: AsyncIterator[bytes]
    length: int | None


@dataclass(frozen=True, slots=True)
class _Draft:
    path: Path
    etag: str


class Uploads:
    """Writes uploads into the store. One that breaks off leaves nothing behind."""

    def __init__(self, artifacts: Artifacts, limits: UploadSettings) -> None:
        self._artifacts = artifacts
        self._limits = limits

    async def add(self, file_name: str | None, kind: str | None, lifetime_s: float | None, body: Body) -> str:
        """Keep a new file, and return its name. Its lifetime counts from the upload's end."""
        async with self._received(body) as draft:
            name = new_upload(file_name, kind, expiry(lifetime_s))
            await self._keep(name, draft)
            return name

    async def put(self, grant: Grant, body: Body) -> None:
        """Keep the file that was granted."""
        async with self._received(body) as draft:
            await self._keep(grant.name, draft)

    async def put_part(self, grant: Grant, number: int, body: Body) -> str:
        """Keep a part, and return its etag."""
        if not 1 <= number <= MOST_PARTS:
            raise UploadRefused(400, "invalid_part", f"Part numbers go from 1 to {MOST_PARTS}, not {number}.")
        async with self._received(body) as draft:
            await self._keep(_part(grant, number, draft.etag), draft)
            return draft.etag

    async def complete(self, grant: Grant, etags: Mapping[int, str]) -> None:
        """Join the parts, given as number and etag, to the file that was granted."""
        if sorted(etags) != list(range(1, len(etags) + 1)) or not etags:
            raise UploadRefused(400, "invalid_part", "Name every part from 1 to the last one.")
        parts = [_part(grant, number, _clean(etags[number])) for number in sorted(etags)]
        await run_in_threadpool(self._join, grant, parts)

    async def _keep(self, name: str, draft: _Draft) -> None:
        kind = content_type(name)
        await run_in_threadpool(self._artifacts.put_file, name, draft.path, content_type=kind)

    def _join(self, grant: Grant, parts: list[str]) -> None:
        try:
            self._check_size(sum(self._artifacts.size(part) for part in parts))
            with self._artifacts.scratch(staging()) as directory, full_disk(grant.name):
                whole = directory / "whole"
                with whole.open("wb") as target:
                    for part in parts:
                        with self._artifacts.local_path(part, keep=False) as path, path.open("rb") as source:
                            shutil.copyfileobj(source, target, BUFFER)
                self._artifacts.put_file(grant.name, whole, content_type=content_type(grant.name))
        except FileNotFoundError as error:
            # A client whose reply was lost asks again, when the parts have gone into the file already.
            if self._artifacts.exists(grant.name):
                return
            raise UploadRefused(
                400, "invalid_part", "A part was not uploaded, or its etag is another. Upload it again."
            ) from error
        self._artifacts.delete_prefix(grant.parts)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise UploadRefused(
                413,
                "file_too_large",
                f"The file is larger than {self._limits.max_bytes} bytes, the most to upload.",
            )
        if size > self._artifacts.free_bytes():
            raise StorageFull("no space left to store an upload: free space where the artifacts lie")

    @asynccontextmanager
    async def _received(self, body: Body) -> AsyncIterator[_Draft]:
        """The body in a file that is gone after the block, unless it was taken over."""
        async with _threaded(self._artifacts.scratch(staging())) as directory:
            if body.length is not None:
                await run_in_threadpool(self._check_size, body.length)
            path = directory / "body"
            yield _Draft(path, await self._write(path, body.chunks))

    async def _write(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        digest = hashlib.blake2b(digest_size=16)
        size = 0
        with path.open("wb", buffering=0) as file:

            def flush(data: bytes) -> None:
                with full_disk("an upload"):
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                digest.update(data)

            buffer = bytearray()
            while chunk := await self._next(chunks):
                size += len(chunk)
                if size > self._limits.max_bytes:
                    self._check_size(size)
                buffer += chunk
                if len(buffer) >= BUFFER:
                    await run_in_threadpool(flush, bytes(buffer))
                    buffer.clear()
            await run_in_threadpool(flush, bytes(buffer))
        return digest.hexdigest()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await anext(chunks, b"")
        except TimeoutError as error:
            raise UploadRefused(
                408, "upload_stalled", f"No data came for {self._limits.idle_s:g} seconds. Upload again."
            ) from error


@asynccontextmanager
async def _threaded(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context whose ends (here: removing gigabytes) may block, outside of the event loop."""
    value = await run_in_threadpool(context.__enter__)
    try:
        yield value
    finally:
        await run_in_threadpool(context.__exit__, None, None, None)


def _part(grant: Grant, number: int, etag: str) -> str:
    return f"{grant.parts}/{number:05d}-{etag}"


def _clean(etag: str) -> str:
    """An etag without the quotes that headers put around it."""
    bare = etag.strip().removeprefix("W/").strip('"')
    if not _ETAG.fullmatch(bare):
        raise UploadRefused(400, "invalid_part", "An etag is none that this server has given.")
    return bare
