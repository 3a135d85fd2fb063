"""The service's stages in this process: no Ray, no server, no job table.

The video is a person's own file: it is read and written in this process too, without the sandbox in which the service
opens what strangers send. Decoding and segmenting run in a thread each, one chunk ahead of what follows, so memory does
not depend on the length of the video. On a CPU the engine sets torch to one thread in the whole process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from serve_app.api.schema import VideoInput, check_supported
from serve_app.fetch.fetch import fetch
from serve_app.jobs.request import JobRequest
from serve_app.picture import Frames
from serve_app.protocols import Chunk, Cutout, EncodeSettings, Index, IndexBrief, JoinRequest, MediaFile
from serve_app.runner import plan
from serve_app.segmentation.engines import make_engine
from serve_app.settings import Settings
from serve_app.stages.piece_store import Cancelled, Codec
from serve_app.video.decode import ChunkDecoder
from serve_app.video.encode import encode_piece
from serve_app.video.figures import PieceFigures
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe

T = TypeVar("T")
logger = logging.getLogger("serve_app")  # gets what the service writes into the log of a request

_SCHEMES = ("http://", "https://", "data:")


def request_of(source: str | Path, **inputs: Any) -> JobRequest:
    """The request of the service with these inputs. Raises `ValueError` or `FeatureNotSupported`."""
    video = VideoInput(video_url=str(source), **inputs)
    check_supported(video)
    return video.to_request()


@contextmanager
def workspace(
    request: JobRequest, settings: Settings, parent: Path | None = None
) -> Iterator[tuple[Path, Path]]:
    """The source as a file, downloaded if it is a URL, and a temporary directory."""
    with TemporaryDirectory(prefix=".cutout-", dir=parent) as name:
        directory, path = Path(name), Path(request.video_url)
        if request.video_url.lower().startswith(_SCHEMES):
            path = directory / "source"
            # The URL is the caller's own, not a stranger's. A program that passes on what it is given denies networks.
            limits = settings.fetch.model_copy(update={"allow_private": True})
            with start_blocking_portal() as portal:  # a notebook's thread runs a loop of its own
                portal.call(fetch, request.video_url, path, limits)
        yield path, directory


@dataclass(frozen=True, slots=True)
class Stages(Codec):
    """Indexes, decodes and segments one source, as decoder and segmenter of the service do; encodes and joins."""

    request: JobRequest
    settings: Settings
    path: Path

    def encode_piece(
        self, cutout: Cutout, settings: EncodeSettings, path: Path, cancelled: Cancelled
    ) -> PieceFigures:
        return encode_piece(cutout, settings, path, cancelled, self.settings.encoder.threads)

    def join_pieces(
        self,
        pieces: Callable[[], Iterable[Path]],
        request: JoinRequest,
        source: Path,
        out: Path,
        cancelled: Cancelled,
    ) -> MediaFile:
        return join_pieces(pieces, request, source, out, cancelled)

    def index(self, decode: bool = False) -> Index:
        index = probe(self.path, self.settings.source, decode=decode)
        return plan.as_requested(index, self.request, self.settings)

    def cutouts(self, index: Index, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, Cutout]]:
        """Yields the cutouts of `chunks`, while the next one is segmented and the one after it decoded."""
        stop = Event()
        variant = self.request.variant
        engine = make_engine(variant, self.settings.segmenter_for(variant))
        options = plan.cut_options(self.request, index, self.settings.picture)

        def decode() -> Generator[tuple[Chunk, Frames]]:
            decoder = ChunkDecoder(self.path, IndexBrief.of(index), self.settings.decoder.threads)
            with closing(decoder):
                for chunk in chunks:
                    yield chunk, decoder.decode(chunk, stop.is_set)

        def segment(decoded: Iterator[tuple[Chunk, Frames]]) -> Generator[tuple[Chunk, Cutout]]:
            for chunk, frames in decoded:
                yield chunk, engine.cut_out(frames, options, stop.is_set)

        with closing(_ahead(decode(), stop)) as decoded, closing(_ahead(segment(decoded), stop)) as made:
            yield from made


def _ahead(items: Generator[T], stop: Event) -> Generator[T]:
    """Yields the items, each computed in a thread while the one before is in use. Sets `stop` if that ends early."""
    with closing(items), ThreadPoolExecutor(1) as thread:
        try:
            coming = thread.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, items, None)
                yield item
        except BaseException:
            stop.set()
            raise
