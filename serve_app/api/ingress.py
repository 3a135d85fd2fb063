"""The Serve deployment of the API. It holds a connection to the job table, and no state.

The application is built in the replica, after the constructor (`serve.ingress()` without an app), so nothing
of it is pickled, and its routers get the opened services by plain arguments.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from ray import serve

from serve_app.api.app import make_app
from serve_app.api.middleware.host_prefix import ForwardedScheme
from serve_app.api.services import Services
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from serve_app.webhooks.signing_keys import KeyFile

if TYPE_CHECKING:
    from serve_app.settings import Settings

SWITCH_S = 0.0005

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class HandleNotifier:
    """`RunnerNotifier` over a handle of the runner's deployment: fire and forget."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def wake(self) -> None:
        self._send("wake")

    def cancel(self, job_id: str) -> None:
        self._send("cancel", job_id)

    def _send(self, method: str, *arguments: str) -> None:
        try:
            getattr(self._runner, method).remote(*arguments)
        except Exception:
            # The runner finds out by itself: it looks at the table a few times a second.
            logger.warning("the runner could not be told to %s", method, exc_info=True)


# Waiting requests are cheap and must not hold back others: the cap on them is `IngressSettings.max_waiting`.
@serve.deployment(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0.1})
@serve.ingress()
class Ingress:
    """Answers HTTP from the job table."""

    # Serve awaits an async constructor; Python's typing does not know of such a thing.
    async def __init__(  # type: ignore[misc]
        self, settings: Settings, runner_handle: Any, files_handle: Any
    ) -> None:
        """`files_handle` is not called: it makes the file server a part of the application."""
        from serve_app.accounts.keys import KeyTable  # the database: in ingress and runner alone
        from serve_app.accounts.verifier import Verifier
        from serve_app.jobs.sql.store import SqlJobStore

        self._behind_proxy = settings.files.upstream is not None
        # Replies are made in one thread and leave by another. Python lets a busy one go on for 5 ms before the other
        # has its turn, longer than a status call takes (2.3 ms instead of 3.8 with Postgres at full load, measured).
        sys.setswitchinterval(SWITCH_S)
        self._store = SqlJobStore(settings.database_url)
        await self._store.open()
        self._keys = KeyTable(settings.database_url)
        artifacts = Artifacts.of(settings)
        await asyncio.to_thread(artifacts.check)
        signer = Signer.of(settings)
        self._services = Services(
            store=self._store,
            artifacts=artifacts,
            notifier=HandleNotifier(runner_handle),
            urls=FileUrls(
                None if settings.files.upstream else settings.files.port,
                FileLinks(signer, artifacts),
                settings.files.public_url,
            ),
            webhook_keys=KeyFile(settings.webhook_key_file),
            verifier=Verifier(self._keys, settings.auth.cache_s) if settings.auth.required else None,
            public_url=settings.public_url,
            limits=settings.ingress,
            uploads=settings.uploads,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        app = make_app(self._services)
        if self._behind_proxy:
            app.add_middleware(ForwardedScheme)
        return app

    async def __del__(self) -> None:
        if hasattr(self, "_store"):
            await self._store.close()
            await self._keys.close()
