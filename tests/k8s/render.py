"""The overlays as the cluster would see them.

`kubectl kustomize` does it where it is there and recent enough; the few lines here need nothing and know exactly
what the overlays use. Whatever else a kustomization might say is refused, so that the two cannot part unseen.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())

Resource = dict[str, Any]
Operation = dict[str, Any]
_KEYS = {"apiVersion", "kind", "resources", "patches"}


class RenderError(Exception):
    """A kustomization that cannot be rendered as it is written."""


def render(directory: Path) -> list[Resource]:
    """The resources of a kustomization, in no particular order."""
    written = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if unknown := written.keys() - _KEYS:
        raise RenderError(f"{directory.name}: the renderer of the tests does not know {sorted(unknown)}")
    resources: list[Resource] = []
    for name in written.get("resources", []):
        path = directory / name
        resources += render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for patch in written.get("patches", []):
        if not patch.keys() <= {"path", "target"}:
            raise RenderError(f"{directory.name}: the renderer of the tests does not know the patch {patch}")
        _patch(resources, yaml.safe_load((directory / patch["path"]).read_text()), patch.get("target"))
    return resources


@cache
def has_kustomize() -> bool:
    """Whether kubectl is there with a kustomize that knows `patches` (kubectl before 1.21 has version 2)."""
    if shutil.which("kubectl") is None:
        return False
    asked = ["kubectl", "version", "--client", "--output", "json"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.returncode == 0 and "kustomizeVersion" in json.loads(done.stdout)


def render_by_kubectl(directory: Path) -> list[Resource]:
    asked = ["kubectl", "kustomize", str(directory)]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode:
        raise RenderError(done.stderr.strip())
    return list(yaml.safe_load_all(done.stdout))


def apply(document: Any, operations: list[Operation]) -> Any:
    """The document after the operations of a JSON patch (RFC 6902; what the overlays and the tests use of it)."""
    document = copy.deepcopy(document)
    for operation in operations:
        _apply(document, operation)
    return document


def _apply(document: Any, operation: Operation) -> None:
    *way, last = (
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].removeprefix("/").split("/")
    )
    verb, path = operation["op"], operation["path"]
    try:
        parent = document
        for part in way:
            parent = parent[_key(parent, part)]
        if verb == "add" and isinstance(parent, list):
            parent.insert(len(parent) if last == "-" else int(last), operation["value"])
            return
        key = _key(parent, last)
        if verb != "add":
            parent[key]  # must be there
        if verb == "remove":
            del parent[key]
        elif verb in {"add", "replace"}:
            parent[key] = operation["value"]
        elif verb != "test":
            raise RenderError(f"the renderer of the tests does not know the operation {verb}")
        elif parent[key] != operation["value"]:
            raise RenderError(f"{path} is {parent[key]!r}, the patch expects {operation['value']!r}")
    except (KeyError, IndexError, ValueError) as error:
        raise RenderError(f"{verb} {path}: there is no {error}") from error


def _key(parent: Any, part: str) -> Any:
    return int(part) if isinstance(parent, list) else part


def _patch(resources: list[Resource], patch: Any, target: dict[str, str] | None) -> None:
    """A list is a JSON patch of its target; a mapping is merged into the resource that it names."""
    if isinstance(patch, dict):
        target = {"kind": patch["kind"], "name": patch["metadata"]["name"]}
    if target is None or target.keys() != {"kind", "name"}:
        raise RenderError("the renderer of the tests finds a patch's target by kind and name")
    wanted = (target["kind"], target["name"])
    places = [i for i, r in enumerate(resources) if (r["kind"], r["metadata"]["name"]) == wanted]
    if len(places) != 1:
        raise RenderError(f"a patch is meant for {wanted}, which is there {len(places)} times")
    old = resources[places[0]]
    resources[places[0]] = _merged(old, patch) if isinstance(patch, dict) else apply(old, patch)


def _merged(old: Any, new: Any) -> Any:
    """As kustomize merges kinds that it has no schema of: mappings by key, null deletes, the rest is replaced."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    kept = {key: value for key, value in old.items() if key not in new}
    return kept | {key: _merged(old.get(key), value) for key, value in new.items() if value is not None}
