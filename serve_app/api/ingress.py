"""The Serve deployment of the API. It holds a connection to the job table and no state.

The application is built in the replica, after the constructor (`serve.ingress()` without an app), so it is never
pickled, and its routers get the opened services as plain arguments.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from ray import serve

from serve_app.accounts.quotas import Quotas
from serve_app.api.app import make_app
from serve_app.api.middleware.host_prefix import ForwardedScheme
from serve_app.api.services import Services
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.callers import Callers
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from serve_app.webhooks.signing_keys import KeyFile

if TYPE_CHECKING:
    from serve_app.settings import Settings

SWITCH_INTERVAL_S = 0.0005

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica


class HandleNotifier:
    """`RunnerNotifier` over the runner's deployment handle; it awaits no response."""

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
            # A lost hint only costs time: the runner polls the table a few times a second.
            logger.warning("could not notify the runner: %s", method, exc_info=True)


# Waiting requests are cheap and must not delay others; `IngressSettings.max_waiting` limits them.
@serve.deployment(max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0.1})
@serve.ingress()
class Ingress:
    """Serves the HTTP API from the job table."""

    # Serve awaits an async constructor, which Python's typing does not allow.
    async def __init__(  # type: ignore[misc]
        self, settings: Settings, runner_handle: Any, files_handle: Any
    ) -> None:
        """`files_handle` is never called: binding it makes the file server part of the application."""
        from serve_app.accounts.keys import KeyTable  # imports the database: only in ingress and runner
        from serve_app.accounts.verifier import Verifier
        from serve_app.jobs.sql.store import SqlJobStore

        self._behind_proxy = settings.files.upstream is not None
        # Replies are built in one thread and sent by another. By default Python switches away from a busy thread after
        # 5 ms, longer than a status call takes (with this: 2.3 ms instead of 3.8, Postgres at full load, measured).
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for line in settings.relaxations:
            logger.warning(line)
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
                tls=settings.tls is not None,
            ),
            webhook_keys=KeyFile(settings.webhook_key_file),
            verifier=Verifier(self._keys, settings.auth.cache_s) if settings.auth.required else None,
            public_url=settings.public_url,
            limits=settings.ingress,
            quotas=Quotas(settings.quotas),
            uploads=settings.uploads,
            callers=Callers.of(settings),
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
