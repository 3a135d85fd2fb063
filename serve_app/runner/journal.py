"""What the holder of a job writes down while it works: progress, log lines, finished pieces."""

from __future__ import annotations

import logging
from dataclasses import asdict

from serve_app.jobs.model import Json, Lease, Progress
from serve_app.jobs.store import JobStore
from serve_app.protocols import Chunk, PieceRef, Provenance

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class Journal:
    """The job table as one holder sees it. What cannot be written is logged: no job fails for want of a log line."""

    def __init__(self, store: JobStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._progress = Progress()

    async def report(self, progress: Progress, *lines: str) -> None:
        """Where the job stands now, and what there is to say about it."""
        self._progress = progress
        for line in lines:
            logger.info("job %s: %s", self._lease.job_id, line)
        try:
            await self._store.report(self._lease, progress, lines)
        except Exception:
            logger.exception("the progress of job %s could not be written", self._lease.job_id)

    async def note(self, line: str) -> None:
        """A line that changes nothing about the progress."""
        await self.report(self._progress, line)

    async def record(self, chunk: Chunk, piece: PieceRef) -> None:
        """Remember a finished piece, so that whoever takes the job over need not make it again."""
        try:
            await self._store.record_piece(self._lease, chunk.number, _to_json(chunk, piece))
        except Exception:
            logger.exception("a piece of job %s could not be recorded", self._lease.job_id)

    async def recorded(self, chunks: list[Chunk]) -> dict[int, PieceRef]:
        """Pieces of just these chunks that were finished under an earlier lease, by number."""
        rows = await self._store.pieces(self._lease.job_id)
        found = {}
        for chunk in chunks:
            row = rows.get(chunk.number)
            if row is None or (row["start"], row["stop"]) != (chunk.start, chunk.stop):
                continue
            try:
                found[chunk.number] = _from_json(row["piece"])
            except (KeyError, TypeError, ValueError):
                logger.warning("a piece that another version has recorded is made again")
        return found


def _to_json(chunk: Chunk, piece: PieceRef) -> Json:
    return {"start": chunk.start, "stop": chunk.stop, "piece": asdict(piece)}


def _from_json(row: Json) -> PieceRef:
    made = row["provenance"]
    provenance = Provenance(**(made | {"size": tuple(made["size"])}))
    segmenting, encoding = row["seconds"]
    return PieceRef(**(row | {"provenance": provenance, "seconds": (segmenting, encoding)}))
