"""Large uploads are streamed through the file server, not held in memory."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.files.uploads_harness import Parts, bearer

SERVER = """
import asyncio, sys
from pathlib import Path
from serve_app.artifacts.store import Artifacts
from serve_app.files.app import make_files_app
from serve_app.files.http_server import HttpServer
from serve_app.files.signing import Signer
from serve_app.settings import UploadSettings

async def main():
    app = make_files_app(Artifacts(Path(sys.argv[1])), Signer(b"a secret of this test"), UploadSettings())
    server = HttpServer(app, "127.0.0.1", 0, drain_s=1)
    await server.start()
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()

asyncio.run(main())
"""


@pytest.mark.long
async def test_large_uploads_take_no_memory(tmp_path: Path) -> None:
    """300 MB in one body, then in parts, four at a time: peak memory must stay low."""
    process = subprocess.Popen(  # noqa: ASYNC220 (nothing waits for it here)
        [sys.executable, "-c", SERVER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    block = os.urandom(1 << 20)

    async def body(size: int) -> AsyncIterator[bytes]:
        for _ in range(size >> 20):
            yield block

    def peak() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(peak_kb) >> 10

    try:
        base = f"http://127.0.0.1:{int(process.stdout.readline())}"
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as client:
            await client.post("/files/upload", content=block, headers=bearer())
            before = peak()
            reply = await client.post("/files/upload", content=body(300 << 20), headers=bearer())
            assert reply.status_code == 200
            parts = Parts(client, bearer())
            await parts.initiate()
            gate = asyncio.Semaphore(4)

            async def put(number: int) -> None:
                async with gate:
                    reply = await client.put(
                        f"{parts.base}/{number}", content=body(10 << 20), headers=parts.headers
                    )
                parts.etags.append({"partNumber": number, "etag": reply.headers["etag"]})

            await asyncio.gather(*(put(number) for number in range(1, 31)))
            assert (await parts.complete()).status_code == 200
            assert (await client.head(parts.url)).headers["content-length"] == str(300 << 20)
            assert peak() - before < 64
    finally:
        process.communicate("")
    assert process.returncode == 0
