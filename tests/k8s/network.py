"""Which connections the NetworkPolicies of an overlay allow, by the rules of `networking.k8s.io/v1`.

Only what the manifests use of it is known; a selector or peer of another form is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.k8s.manifests import Manifests

OWN = "birefnet"
PART = {"app.kubernetes.io/part-of": "birefnet-serve"}
DASHBOARD, AGENT, GCS = (
    8265,
    52365,
    6379,
)  # AGENT: the dashboard agent of every node, with Ray's job interface


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod with its labels, or an address outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = OWN
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str | None = None

    @property
    def of_namespace(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


HEAD = Peer({**PART, "ray.io/node-type": "head"})
WORKER = Peer({**PART, "ray.io/node-type": "worker", "birefnet-serve/role": "worker"})
STRANGER = Peer({"app": "other"}, "other")
NEIGHBOUR = Peer({"app": "other"})
GATEWAY = Peer({"app": "gateway"}, "gateway", {"birefnet-serve/clients": "allowed"})
OPERATOR = Peer({"app.kubernetes.io/name": "kuberay-operator"}, "kuberay")
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")


def outside(address: str) -> Peer:
    return Peer(namespace="", address=address)


MUST_CONNECT: list[tuple[Peer, Peer, int]] = [
    *((a, b, port) for a in (HEAD, WORKER) for b in (HEAD, WORKER) for port in (GCS, DASHBOARD, AGENT, 8000)),
    (OPERATOR, HEAD, DASHBOARD),
    (OPERATOR, WORKER, 8000),
    *((client, WORKER, port) for client in (GATEWAY, NEIGHBOUR) for port in (8000, 8001)),
    *((pod, DNS, 53) for pod in (HEAD, WORKER)),
    *((WORKER, outside(address), 443) for address in ("93.184.216.34", "2606:2800::1")),
    (HEAD, outside("10.96.0.1"), 443),  # the autoscaler to the API server
]
MUST_NOT: list[tuple[Peer, Peer, int]] = [
    *(
        (client, pod, port)
        for client in (STRANGER, NEIGHBOUR, GATEWAY, outside("93.184.216.34"))
        for pod in (HEAD, WORKER)
        for port in (GCS, DASHBOARD, AGENT)
    ),
    *((client, WORKER, port) for client in (STRANGER, outside("93.184.216.34")) for port in (8000, 8001)),
    (OPERATOR, HEAD, GCS),
    *(
        (WORKER, outside(address), 80)
        for address in ("169.254.169.254", "10.0.0.1", "192.168.1.1", "fd00::1")
    ),
    (WORKER, outside("10.96.0.1"), 443),
    (WORKER, outside("93.184.216.34"), 25),
    (HEAD, outside("93.184.216.34"), 80),
]


def network_problems(manifests: Manifests) -> list[str]:
    """Connections that the service needs and lacks, or that must not be and are."""
    policies = [r["spec"] for r in manifests.resources if r["kind"] == "NetworkPolicy"]
    found = [f"closed: {_said(*one)}" for one in MUST_CONNECT if not connects(policies, *one)]
    return found + [f"open: {_said(*one)}" for one in MUST_NOT if connects(policies, *one)]


def connects(policies: list[dict[str, Any]], source: Peer, target: Peer, port: int) -> bool:
    """Both ends must allow it; a pod that no policy selects for a direction is open in this direction."""
    return _allows(policies, "Egress", source, target, port) and _allows(
        policies, "Ingress", target, source, port
    )


def _allows(policies: list[dict[str, Any]], direction: str, subject: Peer, other: Peer, port: int) -> bool:
    if subject.address is not None or subject.namespace != OWN:
        return True  # what policies elsewhere say is not known
    chosen = [
        policy
        for policy in policies
        if direction in policy["policyTypes"] and _selects(policy["podSelector"], subject.labels)
    ]
    rules = [rule for policy in chosen for rule in policy.get(direction.lower(), [])]
    return not chosen or any(_matches(rule, direction, other, port) for rule in rules)


def _matches(rule: dict[str, Any], direction: str, other: Peer, port: int) -> bool:
    peers = rule.get("from" if direction == "Ingress" else "to")
    ports = [one["port"] for one in rule.get("ports", [])]
    return (not ports or port in ports) and (peers is None or any(_is_peer(peer, other) for peer in peers))


def _is_peer(peer: dict[str, Any], other: Peer) -> bool:
    if block := peer.get("ipBlock"):
        if other.address is None:
            return False
        address = ip_address(other.address)
        excepted = any(address in ip_network(network) for network in block.get("except", []))
        return address in ip_network(block["cidr"]) and not excepted
    if other.address is not None:
        return False
    if "namespaceSelector" not in peer and other.namespace != OWN:
        return False
    return _selects(peer.get("namespaceSelector", {}), other.of_namespace) and _selects(
        peer.get("podSelector", {}), other.labels
    )


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if unknown := selector.keys() - {"matchLabels"}:
        raise ValueError(f"the tests do not know the selector {sorted(unknown)}")
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _said(source: Peer, target: Peer, port: int) -> str:
    return f"{_name(source)} to {_name(target)}:{port}"


def _name(peer: Peer) -> str:
    named = peer.labels.get("ray.io/node-type") or next(iter(peer.labels.values()), "")
    return peer.address or f"{peer.namespace}/{named}"


def label_problems(manifests: Manifests) -> Iterator[str]:
    """The pods carry the labels that the policies select; the operator adds `ray.io/node-type`."""
    for group in manifests.groups:
        peer = WORKER if group in manifests.workers else HEAD
        wanted = {k: v for k, v in peer.labels.items() if not k.startswith("ray.io/")}
        labels = group["template"].get("metadata", {}).get("labels", {})
        if not wanted.items() <= labels.items():
            yield f"{group.get('groupName', 'head')}: no network policy selects a pod without {wanted}"
