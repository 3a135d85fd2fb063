"""A rendered overlay with names for the parts that the checks ask for."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from serve_app.settings import Settings
from tests.k8s.render import K8S, Operation, Resource, apply, render

HEAD = "/spec/rayClusterConfig/headGroupSpec"


@dataclass(frozen=True)
class Manifests:
    resources: list[Resource]

    @classmethod
    @cache
    def of(cls, overlay: str) -> Manifests:
        return cls(render(K8S / "overlays" / overlay))

    def one(self, kind: str) -> Resource:
        (found,) = (resource for resource in self.resources if resource["kind"] == kind)
        return found

    @property
    def cluster(self) -> dict[str, Any]:
        found: dict[str, Any] = self.one("RayService")["spec"]["rayClusterConfig"]
        return found

    @property
    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster["workerGroupSpecs"]
        return found

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The head's group, then the workers'."""
        return [self.cluster["headGroupSpec"], *self.workers]

    @property
    def serve(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.one("RayService")["spec"]["serveConfigV2"])
        return found

    @property
    def application(self) -> dict[str, Any]:
        (found,) = self.serve["applications"]
        return dict(found)

    @property
    def settings(self) -> Settings:
        given = self.secrets if self.has_secrets else {}
        return Settings(**{**self.application.get("args", {}), **given})

    @property
    def has_secrets(self) -> bool:
        """Whether every pod reads the Secret with the addresses and secrets of its settings."""
        sources = [source for group in self.groups for source in container(group)["envFrom"]]
        return sources.count({"secretRef": {"name": "birefnet-secrets"}}) == len(self.groups)

    @property
    def secrets(self) -> dict[str, str]:
        """What that Secret would say, by the names of its template."""
        template = K8S / "overlays" / "gpu-autoscaled" / "secrets.example.yaml"
        names = next(yaml.safe_load_all(template.read_text()))["stringData"]
        own = [name.removeprefix("BIREFNET_").lower() for name in names if name.startswith("BIREFNET_")]
        return {name: "postgresql://db.example.org/x" if name == "database" else "x" * 32 for name in own}

    def patched(self, kind: str, *operations: Operation) -> Manifests:
        """With a fault planted into the one resource of this kind."""
        return Manifests([apply(r, list(operations)) if r["kind"] == kind else r for r in self.resources])

    def rewritten(self, old: str, new: str) -> Manifests:
        """With `old` replaced in the text of the Serve config."""
        resources = copy.deepcopy(self.resources)
        changed = Manifests(resources)
        spec = changed.one("RayService")["spec"]
        assert old in spec["serveConfigV2"], (
            f"nothing to plant a fault in: {old!r} is not in the Serve config"
        )
        spec["serveConfigV2"] = spec["serveConfigV2"].replace(old, new)
        return changed


def pod(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = group["template"]["spec"]
    return found


def container(group: dict[str, Any]) -> dict[str, Any]:
    """The Ray container, which the operator takes to be the first one."""
    found: dict[str, Any] = pod(group)["containers"][0]
    return found


def put(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def drop(path: str) -> Operation:
    return {"op": "remove", "path": path}
