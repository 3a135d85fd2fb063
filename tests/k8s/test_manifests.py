"""Every overlay passes every check, and every check finds a fault that is planted into an overlay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.k8s.application import fit_problems, serve_problems
from tests.k8s.manifests import HEAD, Manifests, drop, put
from tests.k8s.render import OVERLAYS, Operation
from tests.k8s.rules import rule_problems
from tests.k8s.schema import schema_problems

SINGLE = ["cpu-demo", "gpu-single"]  # one pod that holds all data
CHECKS = [schema_problems, serve_problems, fit_problems, rule_problems]
WORKER = "/spec/rayClusterConfig/workerGroupSpecs/0"
POD = f"{WORKER}/template/spec"
CONTAINER = f"{POD}/containers/0"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_without_fault(overlay: str, check: Callable[[Manifests], list[str]]) -> None:
    assert check(Manifests.of(overlay)) == []


@pytest.mark.parametrize("overlay", SINGLE)
@pytest.mark.parametrize(
    ("kind", "operation", "message"),
    [
        ("RayService", put(f"{CONTAINER}/imagee", "x"), "'imagee' was unexpected"),
        ("RayService", put(f"{HEAD}/rayStartParam", {}), "'rayStartParam' was unexpected"),
        ("RayService", put("/spec/serveConfig", ""), "'serveConfig' was unexpected"),
        ("RayService", put("/metadata/label", {}), "'label' was unexpected"),
        ("RayService", put("/apiVersion", "ray.io/v1alpha1"), "'ray.io/v1' was expected"),
        ("RayService", put("/spec/rayClusterConfig/autoscalerOptions/version", "v3"), "'v3' is not one of"),
        ("RayService", put(f"{WORKER}/replicas", "one"), "'one' is not of type 'integer'"),
        ("RayService", put(f"{HEAD}/rayStartParams/num-cpus", 0), "0 is not of type 'string'"),
        ("RayService", put(f"{POD}/volumes/0/emptydir", {}), "'emptydir' was unexpected"),
        ("RayService", drop(f"{WORKER}/minReplicas"), "'minReplicas' is a required property"),
        ("Service", put("/spec/ports/0/targetport", 8000), "'targetport' was unexpected"),
        ("Service", put("/spec/selectors", {}), "'selectors' was unexpected"),
        ("ConfigMap", put("/data/RAY_USAGE_STATS_ENABLED", 0), "0 is not of type 'string'"),
        ("ConfigMap", put("/dta", {}), "'dta' was unexpected"),
    ],
)
def test_the_schema_finds_a_typo(overlay: str, kind: str, operation: Operation, message: str) -> None:
    (problem,) = schema_problems(Manifests.of(overlay).patched(kind, operation))
    assert message in problem


def test_the_schema_finds_a_typo_in_a_claim() -> None:
    planted = put("/spec/accessMode", ["ReadWriteOnce"])
    (problem,) = schema_problems(Manifests.of("gpu-single").patched("PersistentVolumeClaim", planted))
    assert "'accessMode' was unexpected" in problem


def test_a_kind_without_a_schema_is_refused() -> None:
    planted = put("/kind", "Deployment")
    (problem,) = schema_problems(Manifests.of("gpu-single").patched("Service", planted))
    assert "Couldn't find schema for kind Deployment" in problem


ENTRY = "    deployments:\n      - name: Encoder\n        "


@pytest.mark.parametrize("overlay", SINGLE)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("proxy_location", "proxy", "unknown key proxy"),
        ("  port: 8000", "  prot: 8000", "unknown key http_options.prot"),
        ("route_prefix", "route", "unknown key applications.route"),
        ("import_path", "improt_path", "unknown key applications.improt_path"),
        ("app:build", "app:biuld", "has no attribute 'biuld'"),
        ("serve_app.app", "serve_ap.app", "No module named 'serve_ap'"),
        ("EveryNode", "EveryNod", "proxy_location"),
        ("segmenter:", "segmentor:", "segmentor"),
        ("device:", "devices:", "segmenter.devices"),
        ("General Use (Light)", "General Use (Lite)", "warm"),
        (
            "    args:",
            ENTRY.replace("Encoder", "Encodr") + "max_ongoing_requests: 1\n    args:",
            "deployment Encodr",
        ),
        (
            "    args:",
            ENTRY + "max_ongoing: 1\n    args:",
            "unknown key applications.deployments.max_ongoing",
        ),
        (
            "    args:",
            ENTRY + "autoscaling_config: {max_replica: 1}\n    args:",
            "unknown key applications.deployments.autoscaling_config.max_replica",
        ),
        (
            "    args:",
            ENTRY + "ray_actor_options: {num_cpu: 1}\n    args:",
            "unknown key applications.deployments.ray_actor_options.num_cpu",
        ),
    ],
)
def test_the_serve_config_is_read_strictly(overlay: str, old: str, new: str, message: str) -> None:
    problems = serve_problems(Manifests.of(overlay).rewritten(old, new))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_cpus: 2", "num_cpus: 20", "no pod can hold one replica of Encoder"),
        ("num_cpus: 1\n", "num_cpus: 0\n", "Decoder asks for no CPU"),
        ("num_cpus: 1\n", "num_cpus: 3\n", "maximum: the deployments want 18.3 cpus, the groups have 14"),
        ("max_replicas: 3", "max_replicas: 4", "maximum: the deployments want 15.3 cpus"),
        ("num_gpus: 0.2", "num_gpus: 0.25", "maximum: the deployments want 1.2 gpus, the groups have 1"),
        ("num_gpus: 0.2", "num_gpus: 2", "minimum: the deployments want 2 gpus, the groups have 1"),
        (
            "    args:",
            ENTRY + "autoscaling_config: {min_replicas: 9, max_replicas: 9}\n    args:",
            "minimum: the deployments want 19.8 cpus",
        ),
    ],
)
def test_what_does_not_fit_shows(old: str, new: str, message: str) -> None:
    problems = fit_problems(Manifests.of("gpu-single").rewritten(old, new))
    assert any(problem.startswith(message) for problem in problems), problems


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (put(f"{CONTAINER}/resources/limits/cpu", "1"), "maximum: the deployments want 1.1 cpus"),
        (put(f"{WORKER}/rayStartParams/num-cpus", "1"), "maximum: the deployments want 1.1 cpus"),
        (put(f"{WORKER}/minReplicas", 0), "minimum: the deployments want 0.6 cpus, the groups have 0"),
        (put(f"{CONTAINER}/resources/limits/cpu", "50m"), "maximum: the deployments want 1.1 cpus"),
    ],
)
def test_a_group_that_is_too_small_shows(operation: Operation, message: str) -> None:
    problems = fit_problems(Manifests.of("cpu-demo").patched("RayService", operation))
    assert any(problem.startswith(message) for problem in problems), problems


@pytest.mark.parametrize("overlay", SINGLE)
@pytest.mark.parametrize(
    ("kind", "operation", "message"),
    [
        ("RayService", put("/metadata/name", "b" * 48), "48 characters, 47 are allowed"),
        ("RayService", put("/metadata/name", "2birefnet"), "no DNS-1035 label"),
        (
            "RayService",
            put("/spec/rayClusterConfig/autoscalerOptions/version", "v1"),
            "autoscaler v2 is not on",
        ),
        (
            "RayService",
            put("/spec/rayClusterConfig/enableInTreeAutoscaling", False),
            "autoscaler v2 is not on",
        ),
        ("RayService", put(f"{POD}/restartPolicy", "Always"), "restartPolicy must be Never"),
        ("RayService", drop(f"{HEAD}/template/spec/restartPolicy"), "head: restartPolicy must be Never"),
        ("RayService", drop(f"{WORKER}/maxReplicas"), "minReplicas and maxReplicas must both be there"),
        ("RayService", put(f"{WORKER}/minReplicas", 2), "replicas must lie between"),
        ("RayService", put(f"{WORKER}/replicas", 2), "replicas must lie between"),
        ("RayService", put(f"{WORKER}/maxReplicas", 2), "one worker pod, not up to 2"),
        ("RayService", put(f"{WORKER}/numOfHosts", 2), "one worker pod, not up to 2"),
        ("RayService", put("/spec/upgradeStrategy/type", "NewCluster"), "upgradeStrategy must be None"),
        ("RayService", put("/spec/upgradeStrategy/type", "none"), "upgradeStrategy must be None"),
        ("RayService", put(f"{CONTAINER}/volumeMounts/0/mountPath", "/dta"), "nothing is mounted at /data"),
        ("RayService", put(f"{CONTAINER}/volumeMounts/0/name", "dta"), "unknown kind of volume"),
        ("RayService", put(f"{HEAD}/rayStartParams/num-cpus", "1"), "num-cpus 0"),
        ("RayService", put(f"{CONTAINER}/readinessProbe", {}), "readinessProbe is left to the operator"),
        ("RayService", put("/spec/rayClusterConfig/authOptions/mode", "disabled"), "must ask for a token"),
        ("RayService", drop(f"{CONTAINER}/envFrom/0"), "the environment of Ray is missing"),
        ("RayService", put(f"{CONTAINER}/env", [{"name": "RAY_AUTH_MODE"}]), "is the operator's"),
        ("RayService", drop(f"{POD}/enableServiceLinks"), "links to Services"),
        (
            "RayService",
            put(f"{WORKER}/rayStartParams/object-store-memory", "1000000000"),
            "smaller than twice",
        ),
        ("RayService", put(f"{CONTAINER}/resources/limits/memory", "3Gi"), "more than half of the memory"),
        ("RayService", put(f"{CONTAINER}/resources/requests/memory", "1Gi"), "request all of it"),
        ("RayService", put(f"{CONTAINER}/ports/0/name", "serv"), "port named serve"),
        ("RayService", put(f"{WORKER}/template/metadata/labels", {}), "must select the workers"),
        ("RayService", put(f"{POD}/securityContext/runAsUser", 0), "must not run as root"),
        ("RayService", drop(f"{CONTAINER}/securityContext"), "forbid privilege escalation"),
        ("RayService", drop(f"{CONTAINER}/securityContext/capabilities"), "drop all"),
        (
            "RayService",
            put(f"{CONTAINER}/securityContext/readOnlyRootFilesystem", False),
            "must be read-only",
        ),
        ("RayService", drop(f"{POD}/initContainers/0/securityContext"), "must be read-only"),
        ("RayService", put(f"{CONTAINER}/volumeMounts/1/mountPath", "/temp"), "needs a /tmp"),
        ("RayService", put(f"{POD}/hostNetwork", True), "the host's network"),
        (
            "RayService",
            put(f"{HEAD}/template/spec/automountServiceAccountToken", True),
            "may not hold the token",
        ),
        ("RayService", drop(f"{POD}/automountServiceAccountToken"), "may not hold the token"),
        (
            "RayService",
            put(f"{HEAD}/template/spec/containers/0/volumeMounts/0/name", "api-token"),
            "only the autoscaler's container may hold a token",
        ),
        (
            "RayService",
            drop(f"{HEAD}/template/metadata/labels/app.kubernetes.io~1part-of"),
            "no network policy selects",
        ),
        ("Service", put("/spec/ports/1/port", 8002), "the application listens on 8000 and 8001"),
        ("Service", put("/spec/selector", {}), "head: the Service must select the workers"),
        ("ConfigMap", put("/data/RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "10"), "lacks"),
    ],
)
def test_the_rules_find_a_fault(overlay: str, kind: str, operation: Operation, message: str) -> None:
    problems = rule_problems(Manifests.of(overlay).patched(kind, operation))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize("overlay", SINGLE)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("host: 0.0.0.0", "host: 127.0.0.1", "host 0.0.0.0"),
        ("port: 8001", "port: 9001", "the application listens on 8000 and 9001"),
        ("EveryNode", "HeadOnly", "proxy_location EveryNode"),
        ("data_dir: /data", "data_dir: /dta", "nothing is mounted at /dta"),
    ],
)
def test_the_rules_read_the_serve_config(overlay: str, old: str, new: str, message: str) -> None:
    problems = rule_problems(Manifests.of(overlay).rewritten(old, new))
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("kind", "operation", "message"),
    [
        ("PersistentVolumeClaim", put("/spec/accessModes", ["ReadWriteMany"]), "so ReadWriteOnce"),
        ("PersistentVolumeClaim", put("/metadata/name", "dta"), "there is no claim birefnet-data"),
    ],
)
def test_the_rules_read_the_claim(kind: str, operation: Operation, message: str) -> None:
    problems = rule_problems(Manifests.of("gpu-single").patched(kind, operation))
    assert any(message in problem for problem in problems), problems
