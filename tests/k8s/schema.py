"""Strict validation: unknown fields are refused.

The RayService against its CustomResourceDefinition, the core kinds against Kubernetes' own schemas.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from tests.k8s.manifests import Manifests

CRD = Path(__file__).parents[1] / "data" / "k8s" / "rayservice-crd.yaml"
KUBERNETES = "1.32"


def schema_problems(manifests: Manifests) -> list[str]:
    """What the API server would refuse, or would drop without a word."""
    found = []
    for resource in manifests.resources:
        kind = resource["kind"]
        own = kind == "RayService"
        for error in validator().iter_errors(resource) if own else _core_errors(json.dumps(resource)):
            found.append(f"{kind}/{'/'.join(map(str, error.absolute_path))}: {error.message}")
    return found


@cache  # the library reads its schemas from disk for every resource
def _core_errors(resource: str) -> list[ValidationError]:
    try:
        kubernetes_validate.validate(json.loads(resource), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [ValidationError(error.message)]
    return []


@cache
def validator() -> Draft202012Validator:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(CRD.read_text(), loader)["spec"]
    (version,) = definition["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    template = schema["properties"]["spec"]["properties"]["rayClusterConfig"]["properties"]["headGroupSpec"]
    metadata = template["properties"]["template"]["properties"]["metadata"]
    return Draft202012Validator(
        {
            "type": "object",
            "properties": {
                "apiVersion": {"const": f"{definition['group']}/{version['name']}"},
                "kind": {"const": "RayService"},
                "metadata": {**metadata, "required": ["name"]},
                "spec": schema["properties"]["spec"],
            },
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "additionalProperties": False,
        }
    )


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
