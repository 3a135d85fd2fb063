"""Finished pieces in the job table: what the next runner takes over, also from another version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serve_app.database.migrate import migrate
from serve_app.jobs.model import Lease, NewJob
from serve_app.jobs.sql.store import SqlJobStore
from serve_app.protocols import Chunk, EmptyPiece, PieceRef, Provenance, StageSeconds
from serve_app.runner.journal import Journal

CHUNKS = [Chunk(0, None, 100, (), 8), Chunk(1, 100, 200, (0,), 8), Chunk(2, 200, None, (100,), 8)]
MADE_BY = Provenance("checkpoint", "cpu", "openvino float32", (256, 320))
SECONDS = StageSeconds(1.5, 0.25)
PIECE = PieceRef("work/job/pieces/000000", None, 9, 8, 0, 99, "ab", None, MADE_BY, SECONDS, (7,))
RECIPE = "a digest"
EMPTY = EmptyPiece(MADE_BY, SECONDS, (7, 9))
# As the version before `EmptyPiece` and the digest of a mask's piece wrote them.
OLD = {key: value for key, value in asdict(PIECE).items() if key not in ("mask_sha256", "damage")}
OLD_EMPTY = OLD | {"size": 0, "frames": 0, "last_pts": 0, "sha256": ""}
BEFORE_ENGINES = asdict(PIECE) | {
    "provenance": {"checkpoint": "checkpoint", "device": "cpu", "size": [256, 320]}
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    migrate(url)
    store = SqlJobStore(url)
    await store.open()
    await store.insert(NewJob("job", {}))
    yield store
    await store.close()


async def leased(store: SqlJobStore) -> Lease:
    (claim,) = await store.claim("runner", 60.0, 1)
    return claim.lease


async def test_pieces_come_back_as_they_were(store: SqlJobStore) -> None:
    journal = Journal(store, await leased(store))
    await journal.record(CHUNKS[0], PIECE, RECIPE)
    await journal.record(CHUNKS[2], EMPTY, RECIPE)
    found = await journal.recorded(CHUNKS, RECIPE)
    assert found == {0: PIECE, 2: EMPTY}
    assert found[0].seconds.segmentation == 1.5 and found[2].seconds.encoding == 0.25


async def test_a_piece_of_the_version_before_is_made_again(store: SqlJobStore) -> None:
    lease = await leased(store)
    await store.record_piece(lease, 0, {"start": None, "stop": 100, "piece": OLD})
    assert await Journal(store, lease).recorded(CHUNKS, RECIPE) == {}


async def test_a_piece_of_another_recipe_is_made_again(store: SqlJobStore) -> None:
    """As after a change of the checkpoint while a job was running."""
    journal = Journal(store, await leased(store))
    await journal.record(CHUNKS[0], PIECE, RECIPE)
    assert await journal.recorded(CHUNKS, "another digest") == {}


async def test_a_piece_of_another_cut_is_made_again(store: SqlJobStore) -> None:
    journal = Journal(store, await leased(store))
    await journal.record(CHUNKS[0], PIECE, RECIPE)
    assert await journal.recorded([Chunk(0, None, 50, (), 4)], RECIPE) == {}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (asdict(PIECE), PIECE),
        (OLD, None),
        (OLD_EMPTY, None),
        (BEFORE_ENGINES, None),
        (asdict(PIECE) | {"new": 1}, None),
        ({key: value for key, value in asdict(PIECE).items() if key != "sha256"}, None),
        ({}, None),
    ],
)
async def test_records_of_another_version(
    store: SqlJobStore, record: dict[str, Any], found: PieceRef | EmptyPiece | None
) -> None:
    lease = await leased(store)
    await store.record_piece(lease, 0, {"chunk": [None, 100, 8], "recipe": RECIPE, "piece": record})
    assert await Journal(store, lease).recorded(CHUNKS, RECIPE) == ({0: found} if found else {})
