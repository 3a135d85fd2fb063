"""Faults in the overlays of several pods: groups by custom resources, state outside, Redis for the head."""

from __future__ import annotations

import pytest

from tests.k8s.application import fit_problems, serve_problems
from tests.k8s.manifests import HEAD, Manifests, drop, put
from tests.k8s.render import Operation
from tests.k8s.rules import rule_problems
from tests.k8s.schema import schema_problems

SEVERAL = "gpu-autoscaled"
GROUPS = "/spec/rayClusterConfig/workerGroupSpecs"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("codecs: 0.001", "codec: 0.001", "no pod can hold one replica of Decoder"),
        ("service: 0.001", "services: 0.001", "no pod can hold one replica of Ingress"),
        ("max_replicas: 12", "max_replicas: 13", "maximum: the deployments want 34 cpus, the groups have 32"),
        ("num_gpus: 0.4", "num_gpus: 0.5", "maximum: the deployments want 4.8 gpus, the groups have 4"),
        (
            "min_replicas: 0, max_replicas: 8",
            "min_replicas: 1, max_replicas: 8",
            "minimum: the deployments want 1 ",
        ),
    ],
)
def test_what_does_not_fit_several_groups_shows(old: str, new: str, message: str) -> None:
    problems = fit_problems(Manifests.of(SEVERAL).rewritten(old, new))
    assert any(problem.startswith(message) for problem in problems), problems


@pytest.mark.parametrize(
    ("kind", "operation", "message"),
    [
        ("RayService", drop(f"{GROUPS}/2/template/spec/volumes/2"), "the keys of webhooks must come from"),
        ("RayService", put(f"{GROUPS}/1/resources", {"service": "1"}), "codecs: the Service must select"),
        ("RayService", put(f"{GROUPS}/1/template/spec/automountServiceAccountToken", True), "the token"),
        ("Service", drop("/spec/selector/birefnet-serve~1group"), "codecs: the Service must select"),
    ],
)
def test_the_rules_of_several_pods_find_a_fault(kind: str, operation: Operation, message: str) -> None:
    problems = rule_problems(Manifests.of(SEVERAL).patched(kind, operation))
    assert any(message in problem for problem in problems), problems


def test_several_pods_without_the_secret_are_refused() -> None:
    planted = drop(f"{HEAD}/template/spec/containers/0/envFrom/1")
    problems = serve_problems(Manifests.of(SEVERAL).patched("RayService", planted))
    assert any("BIREFNET_SECRET" in problem for problem in problems), problems


def test_the_head_of_ha_keeps_its_state_in_redis() -> None:
    options = Manifests.of("ha").cluster["gcsFaultToleranceOptions"]
    assert options["redisPassword"].keys() == {"valueFrom"}  # from a Secret
    planted = put("/spec/rayClusterConfig/gcsFaultToleranceOptions/redisAdress", "x")
    (problem,) = schema_problems(Manifests.of("ha").patched("RayService", planted))
    assert "'redisAdress' was unexpected" in problem
