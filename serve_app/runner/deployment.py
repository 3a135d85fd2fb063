"""JobRunner deployment: the runner loop, the sweeper and the webhook dispatcher in one replica."""

from __future__ import annotations

import asyncio

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.artifacts.store import Artifacts
from serve_app.fal import Variant
from serve_app.files.links import FileLinks
from serve_app.files.signing import Signer
from serve_app.runner.chunk_calls import StageHandles
from serve_app.runner.loop import RunnerLoop
from serve_app.runner.sweeper import Sweeper
from serve_app.settings import Settings
from serve_app.webhooks.signing_keys import KeyFile


@serve.deployment
class JobRunner:
    """Serve sees no ongoing requests on this deployment, so it can neither autoscale nor drain it."""

    async def __init__(  # type: ignore[misc]  # Serve awaits the constructor
        self,
        settings: Settings,
        decoder: DeploymentHandle,
        segmenters: dict[Variant, DeploymentHandle],
        encoder: DeploymentHandle,
    ) -> None:
        from serve_app.jobs.sql.store import SqlJobStore  # SQLAlchemy: only in the ingress and the runner
        from serve_app.webhooks.dispatcher import Dispatcher
        from serve_app.webhooks.payload import PayloadBuilder

        self._store = SqlJobStore(settings.database_url)
        await self._store.open()
        stages = StageHandles.of(decoder, segmenters, encoder)
        artifacts = Artifacts.of(settings)
        await asyncio.to_thread(artifacts.check)
        signer = Signer.of(settings)
        self._runner = RunnerLoop(settings, self._store, stages, artifacts, signer)
        payloads = PayloadBuilder(
            artifacts, FileLinks(signer, artifacts).at, settings.webhooks.max_inline_bytes
        )
        keys = KeyFile(settings.webhook_key_file)
        self._dispatcher = Dispatcher(settings.webhooks, settings.database_url, keys, payloads)
        self._sweep_task = asyncio.create_task(Sweeper(settings.expiry, self._store, artifacts).run())

    async def wake(self) -> None:
        """Hint that a job was queued. Without it, the next poll finds the job."""
        self._runner.wake()

    async def cancel(self, job_id: str) -> None:
        """Hint that a job was cancelled. Without it, the next heartbeat notices."""
        self._runner.cancel(job_id)

    async def check_health(self) -> None:
        self._runner.check()
        self._dispatcher.check()

    async def __del__(self) -> None:
        """Stop all tasks. Serve awaits this for up to `graceful_shutdown_timeout_s`."""
        if hasattr(self, "_runner"):
            self._sweep_task.cancel()
            await self._runner.stop()
            await self._dispatcher.stop()
            await self._store.close()
