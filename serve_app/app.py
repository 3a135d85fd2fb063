"""Wires the deployments into one application, without logic and without importing torch, PyAV or the database.

Ingress ─▶ JobRunner ─▶ Decoder, Segmenter-<variant> x 6, Encoder        FileServer

Annotations here are objects, not strings: Serve reads those of `build` to turn `args` into `Settings`.
"""

from typing import Any

from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from serve_app.api.ingress import Ingress
from serve_app.birefnet.variants import VARIANTS
from serve_app.files.deployment import FileServer
from serve_app.runner.deployment import JobRunner
from serve_app.settings import Scale, Settings, Stage
from serve_app.stages.decoder import Decoder
from serve_app.stages.encoder import Encoder
from serve_app.stages.segmenter import Segmenter

REPLICA_CHOICE = "serve_app.runner.replica_choice:ReplicaChoice"
LITTLE_CPU = {"num_cpus": 0.1}
GRACE_S = 60.0  # longer than the slowest chunk takes; jobs may take longer
FILES_CLOSE_S = 10.0  # for the file server's shutdown after its transfers


def build(settings: Settings) -> Application:
    """The application of a profile with `import_path: serve_app.app:build` and the fields of `Settings` as `args`."""
    decoder = _bind(Decoder, settings, **_stage(settings.decoder))
    encoder = _bind(Encoder, settings, **_stage(settings.encoder))
    segmenters = {}
    for variant, facts in VARIANTS.items():
        own = settings.segmenter_for(variant)
        place = {"num_cpus": own.num_cpus, "num_gpus": own.num_gpus, "resources": own.resources}
        segmenters[variant] = _bind(
            Segmenter,
            variant,
            own,
            name=f"Segmenter-{facts.key}",
            ray_actor_options=place,
            **_scaled(own.scale),
        )
    runner = _bind(
        JobRunner,
        settings,
        decoder,
        segmenters,
        encoder,
        num_replicas=settings.runner.replicas,
        ray_actor_options={**LITTLE_CPU, "resources": settings.runner.resources},
        graceful_shutdown_timeout_s=GRACE_S,
    )
    files = _bind(
        FileServer,
        settings,
        ray_actor_options={**LITTLE_CPU, "resources": settings.files.resources},
        graceful_shutdown_timeout_s=settings.files.drain_s + FILES_CLOSE_S,
    )
    return _bind(
        Ingress,
        settings,
        runner,
        files,
        num_replicas=settings.ingress.replicas,
        ray_actor_options={**LITTLE_CPU, "resources": settings.ingress.resources},
    )


def _bind(deployment: Any, *arguments: Any, **options: Any) -> Application:
    """A deployment with its options and its constructor's arguments."""
    return (deployment.options(**options) if options else deployment).bind(*arguments)


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": stage.num_cpus, "resources": stage.resources},
        **_scaled(stage.scale),
    }


def _scaled(scale: Scale) -> dict[str, Any]:
    """Serve's options for a stage that scales with its ongoing chunks."""
    return {
        "max_ongoing_requests": scale.max_ongoing,
        "request_router_config": RequestRouterConfig(request_router_class=REPLICA_CHOICE),
        "graceful_shutdown_timeout_s": GRACE_S,
        "autoscaling_config": {
            "min_replicas": scale.min_replicas,
            "max_replicas": scale.max_replicas,
            "target_ongoing_requests": scale.target,
            "upscale_delay_s": scale.upscale_delay_s,
            "downscale_delay_s": scale.downscale_delay_s,
            "downscale_to_zero_delay_s": scale.to_zero_delay_s,
        },
    }
