"""Rate and remaining time of a running job, next to its progress."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("frames_per_second", sa.Double))
    op.add_column("jobs", sa.Column("seconds_left", sa.Double))
