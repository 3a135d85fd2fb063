"""Deployments as plain classes, for tests of one replica without a cluster."""

from __future__ import annotations

from typing import Any


def replica_class(deployment: Any) -> Any:
    """The class that a deployment was made of."""
    return deployment.func_or_class


async def started(replica_class: Any, *arguments: Any, **options: Any) -> Any:
    """A replica. Its test calls `__del__`: Serve awaits this method, Python's garbage collector cannot."""
    held: Any = type(replica_class.__name__, (replica_class,), {"__del__": lambda replica: None})
    replica: Any = held.__new__(held)
    await replica.__init__(*arguments, **options)
    return replica
