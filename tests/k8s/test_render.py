"""The overlays render, and alike by kubectl and by the tests' own renderer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.render import (
    K8S,
    OVERLAYS,
    RenderError,
    Resource,
    apply,
    has_kustomize,
    render,
    render_by_kubectl,
)


def by_name(resources: list[Resource]) -> dict[tuple[str, str], Resource]:
    return {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}


def test_the_overlays_are_there() -> None:
    assert OVERLAYS == ["cpu-demo", "gpu-autoscaled", "gpu-single", "ha"]


@pytest.mark.parametrize("directory", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_both_renderers_agree(directory: str) -> None:
    own = by_name(render(K8S / directory))
    assert ("RayService", "birefnet") in own
    if has_kustomize():
        assert by_name(render_by_kubectl(K8S / directory)) == own


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("kustomization.yaml", "patches:", "patchess:", "patchess"),
        ("kustomization.yaml", "name: birefnet", "name: birefnett", "0 times"),
        ("kustomization.yaml", "../../base", "../../bass", "bass"),
        ("groups.yaml", "/spec/rayClusterConfig/workerGroupSpecs/0\n", "/spec/workers/0\n", "workers"),
        ("groups.yaml", "value: cpu", "value: cpuu", "cpuu"),
        ("groups.yaml", "op: remove", "op: delete", "delete"),
        ("groups.yaml", "0/replicas", "0/replica", "there is no 'replica'"),
        ("serve.yaml", "name: birefnet", "name: birefnett", "0 times"),
    ],
)
def test_a_typo_in_an_overlay_shows(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    tree = shutil.copytree(K8S, tmp_path / "k8s")
    path = tree / "overlays" / "gpu-single" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises((RenderError, FileNotFoundError), match=message):
        render(tree / "overlays" / "gpu-single")


@pytest.mark.parametrize(
    ("operation", "after"),
    [
        ({"op": "add", "path": "/a/b~1c", "value": 1}, {"a": {"b/c": 1}, "l": [1, 2]}),
        ({"op": "add", "path": "/l/-", "value": 3}, {"a": {}, "l": [1, 2, 3]}),
        ({"op": "add", "path": "/l/0", "value": 0}, {"a": {}, "l": [0, 1, 2]}),
        ({"op": "remove", "path": "/l/0"}, {"a": {}, "l": [2]}),
        ({"op": "replace", "path": "/l/1", "value": 9}, {"a": {}, "l": [1, 9]}),
        ({"op": "test", "path": "/l/1", "value": 2}, {"a": {}, "l": [1, 2]}),
    ],
)
def test_json_patches(operation: dict[str, Any], after: dict[str, Any]) -> None:
    before: dict[str, Any] = {"a": {}, "l": [1, 2]}
    assert apply(before, [operation]) == after
    assert before == {"a": {}, "l": [1, 2]}
