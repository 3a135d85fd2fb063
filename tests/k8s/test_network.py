"""A hole in the network policies of an overlay shows."""

from __future__ import annotations

import pytest
import yaml

from tests.k8s.manifests import Manifests
from tests.k8s.render import OVERLAYS
from tests.k8s.rules import rule_problems
from tests.k8s.schema import schema_problems


def replaced(overlay: str, old: str, new: str) -> Manifests:
    """With `old` replaced in all network policies."""
    resources = Manifests.of(overlay).resources
    assert old in yaml.safe_dump([r for r in resources if r["kind"] == "NetworkPolicy"])
    return Manifests(
        [
            yaml.safe_load(yaml.safe_dump(r).replace(old, new)) if r["kind"] == "NetworkPolicy" else r
            for r in resources
        ]
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("birefnet-serve/clients: allowed", "birefnet-serve/client: allowed", "closed: gateway/gateway to"),
        ("port: 8265", "port: 8266", "closed: kuberay/kuberay-operator to birefnet/head:8265"),
        ("port: 8001", "port: 8265", "open: birefnet/other to birefnet/worker:8265"),
        ("port: 53", "port: 54", "closed: birefnet/head to kube-system/kube-dns:53"),
        ("- 169.254.0.0/16", "- 169.253.0.0/16", "open: birefnet/worker to 169.254.169.254:80"),
        ("cidr: 2000::/3", "cidr: ::/0", "open: birefnet/worker to fd00::1:80"),
        ("part-of: birefnet-serve", "part-of: birefnet", "open: other/other to birefnet/head:6379"),
        ("- Egress", "- Ingress", "open: birefnet/worker to 10.96.0.1:443"),
        ("kuberay-operator", "kuberay", "closed: kuberay/kuberay-operator to birefnet/head:8265"),
    ],
)
def test_a_hole_in_the_network_policies_shows(overlay: str, old: str, new: str, message: str) -> None:
    problems = rule_problems(replaced(overlay, old, new))
    assert any(problem.startswith(message) for problem in problems), problems


def test_the_schema_finds_a_typo_in_a_network_policy() -> None:
    problems = schema_problems(replaced("gpu-single", "podSelector:", "podSelectr:"))
    assert any("'podSelectr' was unexpected" in problem for problem in problems)
