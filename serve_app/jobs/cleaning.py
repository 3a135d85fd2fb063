"""Deleting what a job has left: never worth failing for."""

from __future__ import annotations

import asyncio
import logging

from serve_app.storage.artifacts import Artifacts

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


async def deleted(artifacts: Artifacts, prefix: str) -> bool:
    """Whether all below `prefix` is gone now; what cannot be deleted is logged, and the sweeper tries again."""
    try:
        await asyncio.to_thread(artifacts.delete_prefix, prefix)
    except Exception:
        logger.exception("the files below %s cannot be deleted now", prefix)
        return False
    return True
