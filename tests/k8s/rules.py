"""What no schema says: the operator's own validation, and what this application needs of its cluster.

The limits of names and the rules of autoscaler v2 are those of KubeRay v1.7.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from serve_app.local.service import RAY_ENVIRONMENT
from tests.k8s.application import quantity
from tests.k8s.manifests import Manifests, container, pod
from tests.k8s.network import label_problems, network_problems

NAME_LENGTH = 47  # 63 less the operator's longest suffix and its six random characters
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def rule_problems(manifests: Manifests) -> list[str]:
    return [problem for rule in RULES for problem in rule(manifests)]


def names(manifests: Manifests) -> Iterator[str]:
    for resource in manifests.resources:
        name = resource["metadata"]["name"]
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{resource['kind']} {name} is no DNS-1035 label"
        if resource["kind"] == "RayService" and len(name) > NAME_LENGTH:
            yield f"the name of the RayService has {len(name)} characters, {NAME_LENGTH} are allowed"


def autoscaler(manifests: Manifests) -> Iterator[str]:
    """Version 2, which replaces pods and forbids that they restart by themselves."""
    cluster = manifests.cluster
    version = cluster.get("autoscalerOptions", {}).get("version")
    if cluster.get("enableInTreeAutoscaling") is not True or version != "v2":
        yield "autoscaler v2 is not on"
    for group in manifests.groups:
        if pod(group).get("restartPolicy") != "Never":
            yield f"{_name(group)}: restartPolicy must be Never with autoscaler v2"


def bounds(manifests: Manifests) -> Iterator[str]:
    for group in manifests.workers:
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if least is None or most is None:
            yield f"{_name(group)}: minReplicas and maxReplicas must both be there"
        elif not least <= group.get("replicas", least) <= most:
            yield f"{_name(group)}: replicas must lie between minReplicas and maxReplicas"
    found = [_name(group) for group in manifests.workers]
    if len(set(found)) < len(found):
        yield f"two groups have one name: {found}"


def one_file_system(manifests: Manifests) -> Iterator[str]:
    """SQLite and the local artifacts: whoever opens the data directory must see the same one."""
    if manifests.settings.database and manifests.settings.artifacts:
        return
    pods = sum(group.get("maxReplicas", 0) * group.get("numOfHosts", 1) for group in manifests.workers)
    if pods != 1:
        yield f"the data is on one file system, so there must be one worker pod, not up to {pods}"
    if manifests.one("RayService")["spec"].get("upgradeStrategy") != {"type": "None"}:
        yield "upgradeStrategy must be None: a second cluster would want the same data"
    claims = {r["metadata"]["name"]: r for r in manifests.resources if r["kind"] == "PersistentVolumeClaim"}
    for name, claim in claims.items():
        if claim["spec"]["accessModes"] != ["ReadWriteOnce"]:
            yield f"{name}: SQLite needs a file system of one node, so ReadWriteOnce"
    for group in manifests.workers:
        data = manifests.settings.data_dir
        mounts = {PurePosixPath(m["mountPath"]): m["name"] for m in container(group).get("volumeMounts", [])}
        volumes = {volume["name"]: volume for volume in pod(group).get("volumes", [])}
        volume = next((volumes.get(name, {}) for at, name in mounts.items() if data.is_relative_to(at)), None)
        if volume is None:
            yield f"{_name(group)}: nothing is mounted at {data}, so the data would fill the container"
        elif claim := volume.get("persistentVolumeClaim"):
            if claim["claimName"] not in claims:
                yield f"{_name(group)}: there is no claim {claim['claimName']}"
        elif "emptyDir" not in volume:
            yield f"{_name(group)}: the data directory is on an unknown kind of volume"


def outside_state(manifests: Manifests) -> Iterator[str]:
    """Several pods: the job table, the artifacts and the keys are the same for all."""
    if sum(group.get("maxReplicas", 0) for group in manifests.workers) > 1:
        if not (manifests.has_secrets and manifests.settings.database and manifests.settings.artifacts):
            yield "several pods need a database, a bucket and a secret that they share: birefnet-secrets"
        keys = manifests.settings.webhook_key_file.parent
        for group in manifests.workers:
            mounts = {mount["mountPath"]: mount["name"] for mount in container(group)["volumeMounts"]}
            volumes = {volume["name"]: volume for volume in pod(group)["volumes"]}
            if "secret" not in volumes.get(mounts.get(str(keys), ""), {}):
                yield f"{_name(group)}: the keys of webhooks must come from a Secret at {keys}"


def head(manifests: Manifests) -> Iterator[str]:
    """No replica on the head: it has no data, and its death is the cluster's."""
    if manifests.cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "the head must have num-cpus 0"


def operators_business(manifests: Manifests) -> Iterator[str]:
    """Probes are injected, and readiness asks the Serve proxy: an own probe would switch that off."""
    for group in manifests.groups:
        for probe in PROBES:
            if probe in container(group):
                yield f"{_name(group)}: {probe} is left to the operator"


def environment(manifests: Manifests) -> Iterator[str]:
    """Read by Ray when it starts, so on every pod; the operator sets the authentication itself."""
    config = manifests.one("ConfigMap")
    missing = {key: value for key, value in RAY_ENVIRONMENT.items() if config["data"].get(key) != value}
    missing.pop("RAY_AUTH_MODE", None)  # named or not
    if missing:
        yield f"{config['metadata']['name']} lacks {missing}"
    if manifests.cluster.get("authOptions", {}).get("mode") != "token":
        yield "the dashboard must ask for a token"
    for group in manifests.groups:
        sources = [s.get("configMapRef", {}).get("name") for s in container(group).get("envFrom", [])]
        if config["metadata"]["name"] not in sources:
            yield f"{_name(group)}: the environment of Ray is missing"
        if "RAY_AUTH_MODE" in {v["name"] for v in container(group).get("env", [])} | config["data"].keys():
            yield f"{_name(group)}: RAY_AUTH_MODE is the operator's"
        if pod(group).get("enableServiceLinks") is not False:
            yield f"{_name(group)}: links to Services would put variables among our settings"


def memory(manifests: Manifests) -> Iterator[str]:
    """The object store lies in /dev/shm, which the operator makes as large as the container's memory."""
    for group in manifests.groups:
        limit = quantity(container(group)["resources"]["limits"]["memory"])
        store = float(group["rayStartParams"]["object-store-memory"])
        if store > limit / 2:
            yield f"{_name(group)}: the object store takes more than half of the memory"
        if group in manifests.workers and store < 2 * manifests.settings.runner.max_object_bytes:
            yield f"{_name(group)}: the object store is smaller than twice runner.max_object_bytes"
        if (
            container(group)["resources"]["requests"]["memory"]
            != container(group)["resources"]["limits"]["memory"]
        ):
            yield f"{_name(group)}: Ray counts on the memory's limit, so request all of it"


def ports(manifests: Manifests) -> Iterator[str]:
    """One address for requests and downloads, as URLs of outputs are made from the host that was asked."""
    http, files = manifests.serve["http_options"], manifests.settings.files
    if http["host"] != "0.0.0.0" or files.host != "0.0.0.0":
        yield "requests and downloads must be reachable from other pods: host 0.0.0.0"
    if manifests.serve.get("proxy_location") != "EveryNode":
        yield "a worker is ready only when its own proxy answers: proxy_location EveryNode"
    service = manifests.one("Service")["spec"]
    found = {port["name"]: (port["port"], port["targetPort"]) for port in service["ports"]}
    if found != {"serve": (http["port"], http["port"]), "files": (files.port, files.port)}:
        yield f"the Service has the ports {found}, the application listens on {http['port']} and {files.port}"
    for group in manifests.groups:
        named = {port["name"]: port["containerPort"] for port in container(group)["ports"]}
        if named.get("serve") != http["port"]:
            yield f"{_name(group)}: the operator looks for a port named serve with {http['port']}"
        labels = group["template"].get("metadata", {}).get("labels", {})
        chosen = service["selector"].items() <= labels.items()
        holds_files = files.resources.keys() <= group.get("resources", {}).keys()
        if chosen != (group in manifests.workers and holds_files):
            yield f"{_name(group)}: the Service must select the workers with the file server and nothing else"


def privileges(manifests: Manifests) -> Iterator[str]:
    for group in manifests.groups:
        user, own = pod(group).get("securityContext", {}), container(group).get("securityContext", {})
        if not (user.get("runAsNonRoot") and user.get("runAsUser")):
            yield f"{_name(group)}: must not run as root"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{_name(group)}: the image has sudo, so forbid privilege escalation"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{_name(group)}: needs no capability, so drop all"
        if pod(group).get("hostNetwork"):
            yield f"{_name(group)}: the host's network would open Ray's ports to its neighbours"
        if pod(group).get("automountServiceAccountToken") is not False:
            yield f"{_name(group)}: what runs here may not hold the token of the service account"
        every = [*pod(group).get("initContainers", []), *pod(group)["containers"]]
        tokens = {v["name"] for v in pod(group).get("volumes", []) if "projected" in v}
        for one in every:
            if one.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{_name(group)}/{one['name']}: the root file system must be read-only"
            mounts = {mount["mountPath"]: mount["name"] for mount in one.get("volumeMounts", [])}
            if "/tmp" not in mounts:
                yield f"{_name(group)}/{one['name']}: Ray needs a /tmp that it may write to"
            if tokens & set(mounts.values()):
                yield f"{_name(group)}/{one['name']}: only the autoscaler's container may hold a token"


def network(manifests: Manifests) -> Iterator[str]:
    """Ray's ports run any code: nobody but the cluster itself and the operator may reach them."""
    yield from network_problems(manifests)
    yield from label_problems(manifests)


def _name(group: dict[str, Any]) -> str:
    return str(group.get("groupName", "head"))


RULES: list[Callable[[Manifests], Iterator[str]]] = [
    names,
    autoscaler,
    bounds,
    one_file_system,
    outside_state,
    head,
    operators_business,
    environment,
    memory,
    ports,
    privileges,
    network,
]
