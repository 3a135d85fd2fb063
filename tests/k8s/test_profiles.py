"""An overlay is its profile under `config/`, apart from what a cluster makes different."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from serve_app.fal import Variant
from tests.k8s.manifests import Manifests
from tests.k8s.render import K8S

CONFIG = K8S.parent / "config"
DIFFERENT: dict[str, dict[str, Any]] = {
    "cpu-demo": {
        "data_dir": "/data",
        "files": {"host": "0.0.0.0", "port": 8001},
        "fetch": {"allow_private": False},
        "webhooks": {"allow_private": False},
        "auth": {"required": True},
    },
    "gpu-single": {"data_dir": "/data"},
    "gpu-autoscaled": {},
    "ha": {},
}


PLACE = {"proxy_location", "http_options"}  # where Serve listens: a cluster's own


def drift(manifests: Manifests, profile: str, different: dict[str, Any]) -> list[str]:
    """Where an overlay is not its profile."""
    expected, found = flat(yaml.safe_load((CONFIG / profile).read_text())), flat(manifests.serve)
    expected |= {f"args.{key}": value for key, value in different.items()}
    return [key for key in sorted(expected | found) if expected.get(key) != found.get(key)]


def flat(written: dict[str, Any]) -> dict[str, Any]:
    """Serve's keys, the application's and the builder's arguments side by side."""
    (application,) = written["applications"]
    return {
        **{key: value for key, value in written.items() if key not in {"applications", *PLACE}},
        **{key: value for key, value in application.items() if key != "args"},
        **{f"args.{key}": value for key, value in application["args"].items()},
    }


PAIRS = [
    ("cpu-demo", "local.yaml"),
    ("gpu-single", "gpu.yaml"),
    ("gpu-autoscaled", "cluster.yaml"),
    ("ha", "cluster.yaml"),
]


@pytest.mark.parametrize(("overlay", "profile"), PAIRS)
def test_an_overlay_is_its_profile(overlay: str, profile: str) -> None:
    assert drift(Manifests.of(overlay), profile, DIFFERENT[overlay]) == []


@pytest.mark.parametrize(("overlay", "profile"), PAIRS)
@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("name: birefnet", "name: birefnett", "name"),
        ("enable_access_log: false", "enable_access_log: true", "logging_config"),
        ("warm: ", "warm: Matting # not ", "args.warm"),
        ("dtype: ", "dtype: u", "args.segmenter"),
        ("data_dir: /data", "data_dir: /tmp", "args.data_dir"),
    ],
)
def test_a_drift_shows(overlay: str, profile: str, old: str, new: str, where: str) -> None:
    assert where in drift(Manifests.of(overlay).rewritten(old, new), profile, DIFFERENT[overlay])


def test_the_checkpoints_of_the_overlays() -> None:
    for overlay, device, checkpoint in (("cpu-demo", "cpu", "embedded"), ("gpu-single", "cuda", None)):
        settings = Manifests.of(overlay).settings
        chosen = [settings.segmenter_for(variant) for variant in Variant]
        assert {(one.device, one.checkpoint) for one in chosen} == {(device, checkpoint)}
