"""Strict validation against the CustomResourceDefinition of RayService: unknown fields are refused.

The definition holds whole schemas of Service (`serveService`) and PersistentVolumeClaim (ephemeral volumes) too, so
that the core kinds are checked as strictly.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.k8s.manifests import Manifests

CRD = Path(__file__).parents[1] / "data" / "k8s" / "rayservice-crd.yaml"


def schema_problems(manifests: Manifests) -> list[str]:
    """What the API server would refuse, or would drop without a word."""
    found = []
    for resource in manifests.resources:
        kind = resource["kind"]
        if kind not in validators():
            found.append(f"{kind}: no schema for this kind")
            continue
        for error in validators()[kind].iter_errors(resource):
            found.append(f"{kind}/{'/'.join(map(str, error.absolute_path))}: {error.message}")
    return found


@cache
def validators() -> dict[str, Draft202012Validator]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(CRD.read_text(), loader)["spec"]
    (version,) = definition["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    spec = schema["properties"]["spec"]["properties"]
    template = spec["rayClusterConfig"]["properties"]["headGroupSpec"]["properties"]["template"]["properties"]
    volume = template["spec"]["properties"]["volumes"]["items"]["properties"]
    claim = volume["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
    metadata = {**template["metadata"], "required": ["name"]}
    ray = f"{definition['group']}/{version['name']}"
    strings = {"type": "object", "additionalProperties": {"type": "string"}}
    parts = {
        "RayService": (ray, {"spec": schema["properties"]["spec"]}),
        "Service": ("v1", {"spec": spec["serveService"]["properties"]["spec"]}),
        "PersistentVolumeClaim": ("v1", {"spec": claim}),
        "ConfigMap": ("v1", {"data": strings}),
    }
    return {kind: _validator(api, kind, metadata, body) for kind, (api, body) in parts.items()}


def strict(schema: Any) -> Any:
    """A schema of Kubernetes as JSON Schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    if schema.get("nullable") is True:
        made.pop("nullable")
        made["type"] = [made["type"], "null"]
    return made


def _validator(api: str, kind: str, metadata: Any, body: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(
        {
            "type": "object",
            "properties": {
                "apiVersion": {"const": api},
                "kind": {"const": kind},
                "metadata": metadata,
                **body,
            },
            "required": ["apiVersion", "kind", "metadata", *body],
            "additionalProperties": False,
        }
    )
