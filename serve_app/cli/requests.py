"""`birefnet-serve status` and `cancel`: requests of a running service, by their ids."""

from __future__ import annotations

import json
from typing import Annotated, Any

import httpx
import typer

from serve_app.cli.client import RequestFailed, Server, json_of, trust_store
from serve_app.cli.common import Key, errors, examples
from serve_app.fal import APP, QUEUE

requests_app = typer.Typer()

RequestId = Annotated[
    str, typer.Argument(metavar="ID", help="The request's id, as the submission returned it.")
]
Url = Annotated[str, typer.Option(help="URL of the service.")]
LOCAL = "http://127.0.0.1:8000"
ID = "00000000-0000-4000-8000-000000000000"


@requests_app.command(epilog=examples(f"status {ID}", f"status {ID} --server http://127.0.0.1:8000 --json"))
def status(
    request_id: RequestId,
    server: Url = LOCAL,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as it is.")] = False,
) -> None:
    """Print state, progress and log of a request. Exit status 1 if there is none of this id."""
    reply = _call("GET", f"{request_id}/status?logs=1", server, key)
    if as_json:
        print(json.dumps(reply))
        return
    print(reply["status"])
    if "error" in reply:  # the wire calls failed and cancelled requests COMPLETED
        print(f"{reply['error_type']}: {reply['error']}")
    if (progress := reply.get("progress")) and progress["frames_total"]:
        print(f"{progress['stage']}: {progress['frames_done']} of {progress['frames_total']} frames")
    for line in reply["logs"]:
        print(f"{line['timestamp']} {line['level']:5} {line['message']}")


@requests_app.command(epilog=examples(f"cancel {ID}"))
def cancel(request_id: RequestId, server: Url = LOCAL, key: Key = None) -> None:
    """Cancel a request. Exit status 1 if there is none of this id, or if it is over."""
    print(_call("PUT", f"{request_id}/cancel", server, key)["status"])


def _call(method: str, path: str, url: str, key: str | None) -> dict[str, Any]:
    """The reply of the request's route; prints an error in one line and exits with status 1."""
    server = Server(url.rstrip("/"), trust_store(), key)
    try:
        with httpx.Client(
            verify=server.verify, trust_env=False, timeout=60, headers=server.headers
        ) as client:
            return json_of(client.request(method, f"{server.url}{QUEUE}{APP}/requests/{path}"))
    except httpx.TransportError as error:
        errors.print(f"{url} cannot be reached: {error}", soft_wrap=True)
    except RequestFailed as error:
        errors.print(str(error), soft_wrap=True)
    raise typer.Exit(1)
