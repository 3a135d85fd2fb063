"""moto's S3 server in this process, used over real HTTP, with a record of its requests."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from serve_app.artifacts.store import NodeDisk


def node_disk(scratch: Path) -> NodeDisk:
    return NodeDisk(scratch, 1 << 30)


@dataclass
class S3Server:
    """`requests`: method, a space and the target of each request, in the order of the replies."""

    endpoint: str
    requests: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }

    def new_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        httpx.put(f"{self.endpoint}/{name}", trust_env=False).raise_for_status()
        return name

    def count(self, method: str, name: str) -> int:
        """The number of requests for objects whose name ends with `name`."""
        targets = (request.split(" ") for request in self.requests)
        return sum(verb == method and target.endswith(name) for verb, target in targets)


class _Record(logging.Handler):
    """werkzeug logs one line per request; its arguments are the request line, the status and the size."""

    def __init__(self, requests: list[str]) -> None:
        super().__init__()
        self._requests = requests

    def emit(self, record: logging.LogRecord) -> None:
        method, _, rest = record.getMessage().partition('"')[2].partition(" ")
        self._requests.append(f"{method} {rest.partition(' ')[0]}")


def put_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 checks `If-None-Match` and writes in one step. moto takes two, and another request can come between them."""
    lock, put = threading.Lock(), S3Response.put_object

    def put_object(self: S3Response) -> Any:
        with lock:
            return put(self)

    monkeypatch.setattr(S3Response, "put_object", put_object)


@pytest.fixture(scope="session", name="moto")
def moto_fixture() -> Iterator[S3Server]:
    monkeypatch = pytest.MonkeyPatch()
    put_one_at_a_time(monkeypatch)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = S3Server(f"http://{host}:{port}")
    record, log = _Record(found.requests), logging.getLogger("werkzeug")
    level, spread = log.level, log.propagate
    log.addHandler(record)
    log.setLevel(logging.INFO)
    log.propagate = False
    yield found
    log.removeHandler(record)
    log.setLevel(level)
    log.propagate = spread
    server.stop()
    monkeypatch.undo()


@pytest.fixture(name="s3")
def s3_fixture(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment set up for it."""
    for key, value in moto.environment().items():
        monkeypatch.setenv(key, value)
    moto.requests.clear()
    return moto
