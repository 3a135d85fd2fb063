"""The replica's side of the zygote and of the processes that it forks."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from typing import TypeVar

from serve_app.errors import JobCancelled
from serve_app.sandbox.confinement import Confinement
from serve_app.sandbox.memory import SharedMemory
from serve_app.sandbox.messages import Failure, Malformed, decoded, receive, send
from serve_app.sandbox.values import FAILURE, PIECE, RESULT

T = TypeVar("T")
_POLL_MS = 50
_SEND_S = 60.0  # for a request to be taken by the process
_END_S = 10.0  # for the exit status of a process that closed its connection
_START_S = 60.0  # for the zygote's imports on a busy machine


class ProcessFailed(Exception):
    """A process reported an error that is no `ServiceError`. kind: its class; the message is its traceback."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.kind = failure.kind


class ProcessEnded(Exception):
    """A process ended before it had answered. code: its exit code, or the negative number of a signal."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason or _described(code))
        self.code = code


class Zygote:
    """Starts the process that all others are forked from, at once and whenever it is gone. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], object] = lambda: None
        self._start()

    def fork(self, limits: Confinement) -> Process:
        """A new process with these limits. Raises `OSError` if none can be started."""
        with self._lock:
            try:
                return self._fork(limits)
            except ConnectionError:
                self._start()
                return self._fork(limits)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Without the replica's environment, which may hold secrets.
            environment = {
                "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
                "OPENBLAS_NUM_THREADS": "1",  # its threads would not survive a fork
                "MALLOC_ARENA_MAX": "2",  # each reserves 64 MB of the address space
            }
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "serve_app.sandbox.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the replica, whose end is the zygote's
            )
        self._control, self._ready = ours, False
        self._end()
        self._end = weakref.finalize(self, _end, ours, popen)

    def _fork(self, limits: Confinement) -> Process:
        if not self._ready:
            self._control.settimeout(_START_S)
            if not self._control.recv(16):
                raise ConnectionError("no media process can be started: the log says why")
            self._ready = True
        with ExitStack() as opened:
            ours, theirs = map(opened.enter_context, socket.socketpair())
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            status, reporting = map(opened.enter_context, pair)
            socket.send_fds(self._control, [pickle.dumps(limits)], [theirs.fileno(), reporting.fileno()])
            theirs.close()
            reporting.close()
            status.settimeout(_START_S)
            message, descriptors, _, _ = socket.recv_fds(status, 256, 1)
            if not message:
                raise ConnectionError("the zygote ended")
            if not descriptors:
                raise OSError(f"no media process could be started: {message.decode()}")
            opened.pop_all()
            return Process(ours, status, descriptors[0])


def _end(control: socket.socket, zygote: subprocess.Popen[bytes]) -> None:
    """The end of the connection ends the zygote, and so its processes."""
    control.close()
    zygote.wait()


class Process:
    """A confined process, and the tasks that it is asked to do. Not thread-safe; must be closed."""

    def __init__(self, connection: socket.socket, status: socket.socket, pidfd: int) -> None:
        self._connection, self._status, self._pidfd = connection, status, pidfd
        self._memory: SharedMemory | None = None
        self._kill = weakref.finalize(self, _kill, pidfd, connection, status)
        connection.settimeout(_SEND_S)

    @property
    def pid(self) -> int:
        """Its process id; -1 when it has ended."""
        lines = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))

    def cpu_s(self) -> float:
        """The CPU time that it has used; infinite when it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return inf
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Kill the process."""
        self._kill()

    def call(
        self,
        kind: type[T],
        task: str,
        arguments: tuple[object, ...],
        cancelled: Callable[[], bool],
        memory: SharedMemory | None = None,
        piece: Callable[[int], Path] | None = None,
    ) -> T:
        """The result, of type `kind`, of a task of `serve_app.sandbox.tasks`.

        memory: shared with the process from now on. piece: answers the questions of `join`.

        Raises the `ServiceError` of the task, `ProcessFailed`, `ProcessEnded`, or `JobCancelled` when `cancelled` turns
        true. The process has to be closed then.
        """

        def wait() -> None:
            while not poll.poll(_POLL_MS):
                if cancelled():
                    raise JobCancelled("The job was cancelled while its media process was working.")

        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        try:
            self._request(task, arguments, memory)
            while True:
                message = receive(self._connection, wait)
                head, body = message[:1], message[1:]
                if head != PIECE or piece is None:
                    break
                send(self._connection, pickle.dumps(piece(decoded(int, body))))
            if head == RESULT:
                return decoded(kind, body)
            failure = decoded(Failure, body) if head == FAILURE else None
        except (EOFError, ConnectionError, TimeoutError) as error:
            raise ProcessEnded(self._code()) from error
        except Malformed as error:
            raise ProcessEnded(None, f"it answered with {error}") from error
        if failure is None:
            raise ProcessEnded(None, "it answered with something else than a result")
        raise failure.error() or ProcessFailed(failure)

    def _request(self, task: str, arguments: tuple[object, ...], memory: SharedMemory | None) -> None:
        new = [memory.descriptor] if memory is not None and memory is not self._memory else []
        self._memory = memory
        socket.send_fds(self._connection, [b"T"], new)
        send(self._connection, pickle.dumps((task, arguments)))

    def _code(self) -> int | None:
        """The exit code of the process that closed its connection, if it has ended."""
        self._status.settimeout(_END_S)
        try:
            return int(self._status.recv(16))
        except (OSError, ValueError):
            return None


def _kill(pidfd: int, *sockets: socket.socket) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    for each in sockets:
        each.close()


def _described(code: int | None) -> str:
    if code is None:
        return "its end is not known"
    if code >= 0:
        return f"it exited with {code}"
    with suppress(ValueError):
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it was ended by signal {-code}"
