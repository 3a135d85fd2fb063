"""What the end or an unexpected error of a media process means for the request."""

from __future__ import annotations

import logging
import signal
from types import TracebackType

from serve_app.errors import ServiceError, WorkTimeout
from serve_app.sandbox.process import ProcessEnded, ProcessFailed

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class Failures:
    """A context that turns the failures of a process into `ServiceError`s.

    subject: "The video" or "The output". refused: for errors that the same file gives again. crashed: for the end of a
        process, which may have been killed for want of memory, and is worth another try.
    """

    def __init__(self, subject: str, refused: type[ServiceError], crashed: type[ServiceError]) -> None:
        self._subject, self._refused, self._crashed = subject, refused, crashed

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ProcessFailed):
            raise self._failed(error) from error
        if isinstance(error, ProcessEnded):
            raise self._ended(error) from error

    def _failed(self, error: ProcessFailed) -> Exception:
        if error.kind == "FileNotFoundError":  # deleted, as its job has ended
            return FileNotFoundError(str(error))
        logger.error("%s failed in its process:\n%s", self._subject, error)
        if error.kind == "MemoryError":
            return self._refused(
                f"{self._subject} needs more memory than one process may use. Make it smaller, or raise "
                "`sandbox.memory_bytes`."
            )
        return self._refused(f"{self._subject} cannot be processed: it is damaged ({error.kind}).")

    def _ended(self, error: ProcessEnded) -> ServiceError:
        logger.error("%s ended its process: %s", self._subject, error)
        if error.code == -signal.SIGXCPU:
            return WorkTimeout(
                f"{self._subject} took more CPU time than one process may use. Make it smaller, or raise "
                "`sandbox.cpu_s`."
            )
        return self._crashed(
            f"{self._subject} cannot be processed: it ended the process that worked on it ({error})."
        )
