"""The handles of the stages, made in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle

from serve_app.protocols import Variant


@dataclass(frozen=True, slots=True)
class StageHandles:
    """How the runner reaches the stages.

    `by_reference` is said explicitly: an operator who turns on Serve's throughput mode would otherwise send
    frames over gRPC, which refuses or is thirty times slower.
    """

    decoder: DeploymentHandle
    segmenters: dict[Variant, DeploymentHandle]
    encoder: DeploymentHandle

    @classmethod
    def of(
        cls,
        decoder: DeploymentHandle,
        segmenters: dict[Variant, DeploymentHandle],
        encoder: DeploymentHandle,
    ) -> StageHandles:
        def frames(handle: DeploymentHandle) -> DeploymentHandle:
            return handle.options(_by_reference=True)

        return cls(
            frames(decoder),
            {variant: frames(handle) for variant, handle in segmenters.items()},
            frames(encoder),
        )
