"""What every branch of the settings has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A branch of the tree: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
