"""What every branch of the settings has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Ray's custom resources that each replica takes of a node, such as {"stages": 0.001}: it lands on such nodes alone.
Resources = dict[str, Annotated[float, Field(gt=0)]]


class Part(BaseModel):
    """A branch of the tree: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
