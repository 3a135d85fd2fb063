"""`serveConfigV2`: Serve's own schema, the builder's arguments, the deployments, and what they ask of the groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import ValidationError
from ray.serve._private.build_app import build_app
from ray.serve.deployment import Deployment
from ray.serve.schema import ServeDeploySchema

from tests.k8s.manifests import Manifests, container
from tests.serve_config import unknown_keys

GPU = "nvidia.com/gpu"
SLACK = 1e-6  # fractions of a GPU are added up


@dataclass(frozen=True)
class Demand:
    """What one deployment asks for: replicas at least and at most, and each replica's resources."""

    name: str
    least: int
    most: int
    cpus: float
    gpus: float
    resources: frozenset[str] = frozenset()  # custom ones, which choose the group


def serve_problems(manifests: Manifests) -> list[str]:
    """Why Serve would refuse the config, or pass over a part of it."""
    found = [f"unknown key {key}" for key in unknown_keys(ServeDeploySchema, manifests.serve)]
    try:
        ServeDeploySchema.model_validate(manifests.serve)
        built = deployments(manifests)
    except (ValidationError, ValueError, ImportError, AttributeError) as error:
        return [*found, str(error)]
    for entry in manifests.application.get("deployments", []):
        if entry["name"] not in built:
            found.append(f"the application has no deployment {entry['name']}, only {sorted(built)}")
    return found


def deployments(manifests: Manifests) -> dict[str, Deployment]:
    """The deployments that the builder makes of the arguments, as Serve would see them."""
    application = manifests.application
    module, _, name = application["import_path"].partition(":")
    build = getattr(import_module(module), name)
    built = build_app(build(manifests.settings), name=application["name"])
    return {deployment.name: deployment for deployment in built.deployments}


def demands(manifests: Manifests) -> list[Demand]:
    """Every deployment's demand, the entries under `deployments:` included."""
    entries = {entry["name"]: entry for entry in manifests.application.get("deployments", [])}
    return [_demand(built, entries.get(name, {})) for name, built in deployments(manifests).items()]


def _demand(deployment: Deployment, entry: dict[str, Any]) -> Demand:
    options = {**(deployment.ray_actor_options or {}), **entry.get("ray_actor_options", {})}
    scaling = deployment._deployment_config.autoscaling_config
    if scaling is None or "num_replicas" in entry:
        least = most = entry.get("num_replicas", deployment.num_replicas)
    else:
        least, most = scaling.min_replicas, scaling.max_replicas
        least = entry.get("autoscaling_config", {}).get("min_replicas", least)
        most = entry.get("autoscaling_config", {}).get("max_replicas", most)
    cpus, gpus = options.get("num_cpus", 1), options.get("num_gpus", 0)
    return Demand(deployment.name, least, most, cpus, gpus, frozenset(options.get("resources") or ()))


def fit_problems(manifests: Manifests) -> list[str]:
    """Replicas that would wait for a place for ever."""
    asked = demands(manifests)
    groups = manifests.workers
    found = []
    for demand in asked:
        if demand.cpus <= 0:
            found.append(f"{demand.name} asks for no CPU: it could land on the head, which has no data")
        if not any(_holds(group, demand) for group in groups):
            found.append(f"no pod can hold one replica of {demand.name}")
    # With the pods that are always there: all that is always there. With all pods: everything at its maximum. Over all
    # groups, then for each group what fits nowhere else.
    parts = [(groups, asked)]
    for group in groups:
        parts.append(([group], [d for d in asked if [g for g in groups if _holds(g, d)] == [group]]))
    for part, bound in parts:
        for what, replicas, count in (
            ("minimum", "least", "minReplicas"),
            ("maximum", "most", "maxReplicas"),
        ):
            for resource, index in (("cpus", 0), ("gpus", 1)):
                wanted = sum(getattr(demand, replicas) * getattr(demand, resource) for demand in bound)
                there = sum(capacity(group)[index] * group[count] for group in part)
                if wanted > there + SLACK:
                    found.append(
                        f"{what}: the deployments want {wanted:g} {resource}, the groups have {there:g}"
                    )
    return found


def _holds(group: dict[str, Any], demand: Demand) -> bool:
    cpus, gpus = capacity(group)
    return (
        demand.cpus <= cpus and demand.gpus <= gpus and demand.resources <= group.get("resources", {}).keys()
    )


def capacity(group: dict[str, Any]) -> tuple[float, float]:
    """(CPUs, GPUs) that Ray counts in a pod of the group, as the operator derives them: limits in whole numbers."""
    limits = container(group)["resources"]["limits"]
    cpus = group["rayStartParams"].get("num-cpus", math.ceil(quantity(limits["cpu"])))
    return float(cpus), float(group["rayStartParams"].get("num-gpus", limits.get(GPU, 0)))


def quantity(written: str | int) -> float:
    """A Kubernetes quantity such as `500m`, `2` or `8Gi`."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    text = str(written)
    for unit, factor in units.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)
