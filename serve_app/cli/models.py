"""What `birefnet-serve models` lists: the checkpoint of each variant, and how fast it last ran."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from serve_app.birefnet.checkpoints import Checkpoint, find
from serve_app.birefnet.variants import VARIANTS
from serve_app.database.engine import Database, is_sqlite, parse, translated_errors
from serve_app.database.tables import jobs
from serve_app.errors import CheckpointError
from serve_app.fal import Variant
from serve_app.jobs.model import JobState
from serve_app.jobs.request import JobRequest
from serve_app.settings import Settings

DEFAULT = JobRequest("").variant.value  # of a request that names no model


@dataclass(frozen=True, slots=True)
class Model:
    """A variant as a profile runs it.

    checkpoint: "embedded", a directory or a hub repository. network, trained: of the variant's official weights.
    backbone: of the checkpoint; None where it is not at hand.
    loaded_from: the weights; None where they are not on this machine. problem: why they cannot be loaded.
    frames_per_second: of the whole last job; None where the job table has none.
    """

    model: str
    checkpoint: str
    backbone: str | None
    official: str
    trained: str
    licence: str
    loaded_from: str | None
    problem: str | None
    frames_per_second: float | None


def models(settings: Settings) -> list[Model]:
    """All variants. Nothing is downloaded. Raises `SetupError` if the job table cannot be read."""
    rates = asyncio.run(_rates(settings.database_url))
    found = []
    for variant, facts in VARIANTS.items():
        own = settings.segmenter_for(variant).model_copy(update={"offline": True})
        source = facts.source(own.checkpoint)
        checkpoint: Checkpoint | None = None
        problem = None
        try:
            checkpoint = find(source, own)
        except CheckpointError as error:
            problem = str(error)
        found.append(
            Model(
                model=variant.value,
                checkpoint=source,
                backbone=checkpoint.config.backbone if checkpoint else None,
                official=f"{facts.repository} ({facts.backbone})",
                trained=facts.trained,
                licence=facts.licence if source == facts.repository else "see its model card",
                loaded_from=str(checkpoint.weights) if checkpoint else None,
                problem=problem,
                frames_per_second=rates.get(variant),
            )
        )
    return found


async def _rates(url: str) -> dict[Variant, float]:
    """Frames per second of the last completed job of each variant, from its start to its end.

    Jobs whose payload was not kept count for none: the input itself is deleted with the end.
    """
    parsed = parse(url)
    if is_sqlite(parsed) and not Path(parsed.database or "").exists():
        return {}
    database, rates = Database(url), {}
    try:
        with translated_errors(parsed):
            for variant in Variant:
                last = (
                    select(jobs.c.result, jobs.c.started_at, jobs.c.finished_at)
                    .where(jobs.c.state == JobState.COMPLETED.value)
                    .where(jobs.c.result.is_not(None), jobs.c.payload.is_not(None))
                    .where(func.coalesce(jobs.c.payload["model"].as_string(), DEFAULT) == variant.value)
                    .order_by(jobs.c.finished_at.desc())
                    .limit(1)
                )
                for result, started, finished in await database.scan(last):
                    if started is not None and finished > started:
                        rates[variant] = result["video"]["num_frames"] / (finished - started)
    finally:
        await database.close()
    return rates
