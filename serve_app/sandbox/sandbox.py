"""`serve_app.video` in confined processes: the same functions, with the same results.

A hostile file can end or take over the process that reads it, and nothing else: a process has the files of one call, or
of one open source, and what it answers is checked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from serve_app.errors import DecoderCrashed, EncoderCrashed, EncodingFailed, SetupError, UnsupportedVideo
from serve_app.picture import Frames
from serve_app.protocols import Chunk, Cutout, EncodeSettings, Index, IndexBrief, JoinRequest, MediaFile
from serve_app.sandbox.confinement import Confinement, available
from serve_app.sandbox.failures import Failures
from serve_app.sandbox.memory import SharedMemory, plane_slots
from serve_app.sandbox.process import Process, ProcessEnded, Zygote
from serve_app.sandbox.values import Decoded, SharedCutout
from serve_app.settings import SandboxSettings, SourceLimits
from serve_app.video.figures import PieceFigures, room_for
from serve_app.video.formats import output_format

Cancelled = Callable[[], bool]

_READING = Failures("The video", UnsupportedVideo, DecoderCrashed)
_WRITING = Failures("The output", EncodingFailed, EncoderCrashed)
_ENCODER_MEMORY = 8  # times the bytes of a cutout: VP9 with alpha has two encoders
_PIECE_BYTES = 16  # of a file for each sample of the matte: three times the raw planes, at most


class Sandbox:
    """Starts processes for media. `threads`: of each codec. Thread-safe.

    Methods raise what the functions of the same names in `serve_app.video` raise; `DecoderCrashed` or `EncoderCrashed`
    if a process ended by a fault; `WorkTimeout` if it used up its CPU time. When `cancelled` turns true the process is
    killed and `JobCancelled` raised.
    """

    def __init__(self, settings: SandboxSettings, threads: int) -> None:
        """Raises `SetupError` if the settings require what this system does not have."""
        self._settings, self._threads = settings, threads
        missing = {"landlock", "seccomp"} - set(available())
        if settings.required and missing:
            raise SetupError(
                f"`sandbox.required` is set, but this system has no {' and no '.join(sorted(missing))}: use Linux 5.13 "
                "or newer with both switched on and with the library libseccomp, or switch `sandbox.required` off"
            )
        self._zygote = Zygote()

    @property
    def enforced(self) -> str:
        """What holds for each process, for the log."""
        names = {
            "landlock": "no files but those handed to it (Landlock)",
            "seccomp": "no network and no other programs (seccomp)",
        }
        has = available()
        held = [f"{self._settings.memory_bytes >> 20} MiB of memory, CPU time, size of files"]
        held += [text for name, text in names.items() if name in has]
        missing = [f"NOT {text}" for name, text in names.items() if name not in has]
        return "; ".join(held + missing)

    def probe(self, path: Path, limits: SourceLimits, cancelled: Cancelled, decode: bool = False) -> Index:
        with closing(self._process(readable=(path,))) as process, _READING:
            index = process.call(Index, "probe", (path, limits, decode), cancelled)
            pixels, frames = index.layout.width * index.layout.height, len(index.pts)
            if not (0 < pixels <= limits.max_pixels and 0 < frames <= limits.max_frames):
                raise ProcessEnded(None, f"it answered with {frames} frames of {pixels} pixels")
            return index

    def source(self, path: Path, brief: IndexBrief) -> OpenSource:
        """A source for decoding. It must be closed."""
        process = self._process(readable=(path,))
        return OpenSource(process, path, brief, self._threads, self._cpu_s / 2)

    def encode_piece(
        self, cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Cancelled
    ) -> PieceFigures:
        handed, memory = SharedCutout.of(cutout)
        most = _PIECE_BYTES * cutout.matte.nbytes + (64 << 20)
        with _written(path) as inside:
            more = _ENCODER_MEMORY * memory.size
            process = self._process(writable=(inside.parent,), file_bytes=most, more_bytes=more)
            with closing(process), _WRITING:
                arguments = (handed, settings, inside, self._threads)
                figures = process.call(PieceFigures, "encode", arguments, cancelled, memory)
        return replace(figures, size=path.stat().st_size)

    def join_pieces(
        self,
        pieces: Callable[[], Iterable[Path]],
        request: JoinRequest,
        source: Path,
        out: Path,
        cancelled: Cancelled,
    ) -> MediaFile:
        with _written(out) as inside, _Handed(pieces, out.with_name(out.name + ".pieces")) as handed:
            process = self._process(
                readable=(source, handed.directory),
                writable=(inside.parent,),
                file_bytes=self._settings.file_bytes,
            )
            with closing(process), _WRITING:
                media = process.call(
                    MediaFile, "join", (request, source, inside), cancelled, piece=handed.piece
                )
        form = output_format(request.settings.output_type, request.settings.mask)
        return replace(
            media,
            name=request.output,
            file_name=Path(request.output).name,
            content_type=form.content_type,
            file_size=out.stat().st_size,
        )

    @property
    def _cpu_s(self) -> float:
        return self._settings.cpu_s * self._threads

    def _process(
        self,
        readable: tuple[Path, ...] = (),
        writable: tuple[Path, ...] = (),
        file_bytes: int = 0,
        more_bytes: int = 0,
    ) -> Process:
        for path in readable:
            path.stat()  # `FileNotFoundError` if its job has ended
        memory_bytes = self._settings.memory_bytes + more_bytes
        limits = Confinement(readable, writable, memory_bytes, self._cpu_s, file_bytes)
        return self._zygote.fork(limits)


class OpenSource:
    """A process that keeps one source open, as a `ChunkDecoder` does. Not thread-safe; must be closed."""

    def __init__(self, process: Process, path: Path, brief: IndexBrief, threads: int, cpu_s: float) -> None:
        self._process, self._path, self._brief, self._threads = process, path, brief, threads
        self._cpu_s = cpu_s
        self._file = _identity(path)
        self._memory: SharedMemory | None = None

    def decode(self, chunk: Chunk, cancelled: Cancelled) -> Frames:
        """As `ChunkDecoder.decode`; after an error the source has to be closed."""
        slots = plane_slots(self._brief.layout, room_for(chunk))
        if self._memory is None or not self._memory.serves(slots):
            self._memory = SharedMemory(slots)
        with _READING:
            arguments = (self._path, self._brief, self._threads, chunk, slots)
            done = self._process.call(Decoded, "decode", arguments, cancelled, self._memory)
            planes = tuple(plane[: len(done.pts)] for plane in self._memory.arrays(slots))
            try:
                return Frames(planes, self._brief.layout, done.pts, self._brief.time_base, done.damage)
            except (TypeError, ValueError) as error:
                raise ProcessEnded(None, f"it answered with wrong frames: {error}") from error

    def fit(self, path: Path) -> bool:
        """Whether this process may read the file that is now at `path`, and has CPU time left for it."""
        return self._file == _identity(path) and self._process.cpu_s() < self._cpu_s

    def close(self) -> None:
        self._process.close()


class _Handed:
    """Puts one piece at a time into `directory`, where a process may read it. `pieces`: as of `join_pieces`."""

    def __init__(self, pieces: Callable[[], Iterable[Path]], directory: Path) -> None:
        self._pieces, self.directory = pieces, directory
        self._rest: Iterator[Path] = iter(())

    def __enter__(self) -> Self:
        self.directory.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def piece(self, number: int) -> Path:
        """The next piece; `number` 0 begins anew. The one before is no longer there."""
        if number == 0:
            self._rest = iter(self._pieces())
        path = next(self._rest, None)
        if path is None:
            raise ProcessEnded(None, "it asked for a piece that does not exist")
        link = self.directory / "piece"
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        return link


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A path in a directory of its own, for a process to write to; the file becomes `path` at the end."""
    directory = path.with_name(path.name + ".process")
    directory.mkdir()
    try:
        inside = directory / path.name
        yield inside
        if inside.is_symlink() or not inside.is_file():
            raise EncoderCrashed("The output could not be written: its process left no file.")
        inside.replace(path)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
