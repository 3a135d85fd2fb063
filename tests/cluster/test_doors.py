"""Ray's own doors: whoever reaches the machine without this run's token gets nothing from any of them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.cluster.service import Service, command_of, descendants

pytestmark = pytest.mark.cluster

METHODS = (  # of every kind of gRPC server that Ray and Serve start
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.InternalKVGcsService/InternalKVGet",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/ray.serve.ASGIService/HandleRequest",
    "/ray.serve.ASGIService/HandleRequestStreaming",
)
PATHS = ("/", "/api/jobs/", "/api/job_agent/jobs/", "/get_or_create_runtime_env", "/api/serve/applications/")
JOIN = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
print(ray.get(ray.remote(lambda: "ran").remote()))
"""


@dataclass(frozen=True)
class Door:
    """A listening socket: of which process, and where."""

    command: str
    host: str
    port: int


def doors(service: Service) -> list[Door]:
    """All sockets on which a service listens, but for its own HTTP proxy and file server."""
    found = []
    for pid in (service.process.pid, *descendants(service.process.pid)):
        for connection in psutil.Process(pid).net_connections("inet"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr.port != httpx.URL(service.url).port
            ):
                host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(
                    connection.laddr.ip, connection.laddr.ip
                )
                found.append(Door(command_of(pid), host, connection.laddr.port))
    return [door for door in found if not ("FileServer" in door.command and is_http(door))]


def is_http(door: Door) -> bool:
    try:
        httpx.get(f"http://{door.host}:{door.port}/", timeout=10, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def call(door: Door, method: str) -> grpc.StatusCode:
    with grpc.insecure_channel(f"{door.host}:{door.port}") as channel:
        try:
            channel.unary_unary(method)(b"", timeout=10)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def test_every_door_asks_for_the_token(service: Service) -> None:
    asking = set()
    for door in doors(service):
        if is_http(door):
            for path in PATHS:
                reply = httpx.get(f"http://{door.host}:{door.port}{path}", timeout=10, trust_env=False)
                metrics = reply.headers["Content-Type"].startswith(
                    "text/plain; version="
                )  # figures, read only
                assert reply.status_code == 401 or metrics, (door, path, reply.text[:200])
            continue
        codes = {call(door, method) for method in METHODS}
        assert codes <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}, (door, codes)
        assert grpc.StatusCode.UNAUTHENTICATED in codes, door
        asking.add(door.command.split()[0].rpartition("/")[2])
    for kind in ("gcs_server", "raylet", "ray::ServeController", "ray::ServeReplica:birefnet:Segmenter"):
        assert any(name.startswith(kind) for name in asking), (kind, asking)


@pytest.mark.long  # Ray tries for a while before it gives up
def test_only_the_token_joins_the_cluster(service: Service) -> None:
    pids = (service.process.pid, *descendants(service.process.pid))
    (raylet,) = (pid for pid in pids if command_of(pid).split(" ")[0].endswith("/raylet"))
    environment = psutil.Process(raylet).environ()
    token = environment["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    assert not any(token in command_of(pid) for pid in pids)
    (address, *_) = re.findall(r"--gcs-address=(\S+)", command_of(raylet))
    plain = {key: value for key, value in environment.items() if not key.startswith("RAY_")}
    with_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    others = ({"RAY_AUTH_MODE": "disabled"}, {**with_token, "RAY_AUTH_TOKEN": "0" * 64})
    assert joined(address, plain | with_token) == "ran\n"
    for other in others:
        assert joined(address, plain | other) == ""


def joined(address: str, environment: dict[str, str]) -> str:
    """What a stranger's task prints on the cluster."""
    command = [sys.executable, "-c", JOIN, address]
    run = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert (run.returncode == 0) == bool(run.stdout), run.stderr
    return run.stdout
