"""The process that media processes are forked from: `python -m serve_app.sandbox.zygote FD`.

It is started by exec, with an environment of its own, so that nothing of the replica is in its memory, and it has one
thread, so that forking is safe. It imports what media processes need once; it never opens media itself. A media process
costs a fork, and takes nothing from one job to the next.

Each datagram on the socket FD is a pickled `Confinement` with two sockets: the process gets the first; the second gets
a file descriptor of the process (pidfd) when it runs, and its exit status when it has ended. The end of FD ends all.
"""

from __future__ import annotations

import gc
import os
import pickle
import selectors
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from serve_app.sandbox.confinement import Confinement, confine
from serve_app.sandbox.tasks import serve, warm_up

REQUEST_BYTES = 1 << 16


def main(control: socket.socket) -> None:
    warm_up()
    gc.collect()
    gc.freeze()  # a collection in a child would copy all pages
    control.send(b"ready")
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _report(key.fd, *key.data)
                    continue
                request, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
                if not request:
                    return
                process, status = (socket.socket(fileno=number) for number in descriptors)
                with process:
                    try:
                        pid = _fork(pickle.loads(request), process, control)
                    except OSError as error:  # the machine has no room for another process
                        _tell(status, str(error).encode())
                        status.close()
                        continue
                pidfd = os.pidfd_open(pid)
                _tell(status, b"runs", pidfd)
                selector.register(pidfd, selectors.EVENT_READ, (pid, status))


def _fork(limits: Confinement, process: socket.socket, control: socket.socket) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        control.detach()
        kept, nowhere = process.fileno(), os.open(os.devnull, os.O_RDWR)
        for number in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
            if number > 2 and number not in (kept, nowhere):
                with suppress(OSError):
                    os.close(number)
        confine(limits, parent)
        os.dup2(nowhere, 2)  # the replica's log: its size would count as that of a written file
        serve(process)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _report(pidfd: int, pid: int, status: socket.socket) -> None:
    _, code = os.waitpid(pid, 0)
    os.close(pidfd)
    with status:
        _tell(status, str(os.waitstatus_to_exitcode(code)).encode())


def _tell(status: socket.socket, message: bytes, *descriptors: int) -> None:
    with suppress(OSError):  # nobody may want to know any more
        socket.send_fds(status, [message], descriptors)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
