"""Changes only name resolution: the vendor's hosts are this machine, and their port 443 is NAMES_PORT, as a hosts file
would do for a service on port 443.

    python names.py PROGRAM ARGUMENT...
"""

from __future__ import annotations

import os
import re
import runpy
import socket
import sys
from typing import Any

VENDOR = re.compile(r"(.*\.)?(fal\.run|falrun\.com|fal\.ai|fal\.media)")
HERE = "127.0.0.1"

resolve = socket.getaddrinfo
connect = socket.socket.connect


def resolve_here(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    return resolve(HERE if VENDOR.fullmatch(name or "") else host, *arguments, **options)


def connect_here(self: socket.socket, address: Any) -> None:
    connect(self, (HERE, int(os.environ["NAMES_PORT"])) if address == (HERE, 443) else address)


socket.getaddrinfo = resolve_here
socket.socket.connect = connect_here  # type: ignore[assignment, method-assign]
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
