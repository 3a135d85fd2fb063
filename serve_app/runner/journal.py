"""Writes the progress, log lines and finished pieces of a running job to the job table."""

from __future__ import annotations

import logging
from dataclasses import asdict

from serve_app.jobs.model import Json, Lease, LogLevel, Progress
from serve_app.jobs.store import JobLeases
from serve_app.protocols import Chunk, EmptyPiece, Piece, PieceRef, Provenance, StageSeconds

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class Journal:
    """The journal of one lease. Failed writes are only logged: a job does not fail over a log line.

    Pieces are recorded with the recipe that they were made by (`plan.recipe`), and used again under the same one alone.
    """

    def __init__(self, store: JobLeases, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._progress = Progress()

    async def report(self, progress: Progress, *lines: str, level: LogLevel = LogLevel.INFO) -> None:
        """Write the current progress, with log lines."""
        self._progress = progress
        for line in lines:
            logger.log(
                logging.WARNING if level == "WARN" else logging.INFO, "job %s: %s", self._lease.job_id, line
            )
        try:
            await self._store.report(self._lease, progress, lines, level)
        except Exception:
            logger.exception("the progress of job %s could not be written", self._lease.job_id)

    async def note(self, line: str) -> None:
        """Write a log line without changing the progress."""
        await self.report(self._progress, line)

    async def warn(self, *lines: str) -> None:
        """Write the lines, if any, as warnings."""
        if lines:
            await self.report(self._progress, *lines, level=LogLevel.WARN)

    async def record(self, chunk: Chunk, piece: Piece, recipe: str) -> None:
        """Record a finished piece, so that a runner that takes over the job can reuse it."""
        try:
            await self._store.record_piece(self._lease, chunk.number, _to_json(chunk, piece, recipe))
        except Exception:
            logger.exception("a piece of job %s could not be recorded", self._lease.job_id)

    async def recorded(self, chunks: list[Chunk], recipe: str) -> dict[int, Piece]:
        """The pieces of exactly these chunks and this recipe that earlier leases recorded, by chunk number."""
        rows = await self._store.pieces(self._lease.job_id)
        found = {}
        for chunk in chunks:
            row = rows.get(chunk.number)
            if row is None or row.get("recipe") != recipe:
                continue
            if row.get("chunk") != [chunk.start, chunk.stop, chunk.frames]:
                continue
            try:
                found[chunk.number] = _from_json(row["piece"])
            except (KeyError, TypeError, ValueError):
                logger.warning("a piece recorded by another version is unreadable; computing it again")
        return found


def _to_json(chunk: Chunk, piece: Piece, recipe: str) -> Json:
    return {"chunk": [chunk.start, chunk.stop, chunk.frames], "recipe": recipe, "piece": asdict(piece)}


def _from_json(row: Json) -> Piece:
    fields = row["provenance"]
    provenance = Provenance(**(fields | {"size": tuple(fields["size"])}))
    seconds, damage = StageSeconds(*row["seconds"]), tuple(row["damage"])
    if "frames" not in row:
        return EmptyPiece(provenance, seconds, damage)
    return PieceRef(**(row | {"provenance": provenance, "seconds": seconds, "damage": damage}))
