"""Which order of image tiles a checkpoint of the published shape goes with, as `birefnet-serve models --check` found.

The official code changed the order without new weights, and nothing in the files tells it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from serve_app.birefnet.configuration import TileOrder
from serve_app.birefnet.hub import sha256_of
from serve_app.errors import CheckpointMismatch


@dataclass(frozen=True, slots=True)
class TileOrders:
    """A JSON file of orders by the SHA-256 of the weights; none if it does not exist."""

    path: Path

    def of(self, weights: Path) -> TileOrder | None:
        """Raises CheckpointMismatch if the file is not one of these."""
        recorded = self._read()
        return recorded.get(sha256_of(weights)) if recorded else None

    def record(self, weights: Path, order: TileOrder) -> None:
        text = json.dumps(self._read() | {sha256_of(weights): order}, indent=1, sort_keys=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.replace(self.path)

    def _read(self) -> dict[str, TileOrder]:
        if not self.path.is_file():
            return {}
        try:
            recorded: dict[str, TileOrder] = json.loads(self.path.read_text())
            if all(order in get_args(TileOrder) for order in recorded.values()):
                return recorded
        except (ValueError, AttributeError):
            pass
        raise CheckpointMismatch(
            f"{self.path} is not a record of tile orders: delete it, and run `models --check` again"
        )
