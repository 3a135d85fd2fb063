"""The builder and the profiles: wiring only, nothing heavy imported, nothing misspelt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from serve_app.fal import Variant
from serve_app.local.profile import Profile, StartError
from serve_app.settings import Settings
from tests.serve_config import unknown_keys

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "config").glob("*.yaml"))


HEAVY = ("torch", "transformers", "openvino", "av", "sqlalchemy")
BUILDER = "from serve_app.app import build; from serve_app.settings import Settings; build(Settings())"


@pytest.mark.parametrize(
    ("process", "heavy"),
    [
        (BUILDER, []),
        (
            "import serve_app.api.ingress, serve_app.accounts.verifier, serve_app.jobs.sql.store",
            ["sqlalchemy"],
        ),
        (
            "import serve_app.runner.deployment, serve_app.jobs.sql.store, serve_app.webhooks.dispatcher",
            ["sqlalchemy"],
        ),
        ("import serve_app.files.deployment, serve_app.files.app, serve_app.files.reverse_proxy", []),
        ("import serve_app.stages.decoder, serve_app.stages.encoder, serve_app.sandbox.sandbox", []),
        ("import serve_app.sandbox.zygote", ["av"]),
        (
            "import serve_app.stages.segmenter, serve_app.segmentation.processing",
            ["torch", "transformers"],
        ),
        (
            "import serve_app.segmentation.processing, serve_app.segmentation.openvino_network",
            ["torch", "transformers", "openvino"],
        ),
    ],
    ids=[
        "builder",
        "ingress",
        "runner",
        "files",
        "codecs",
        "media process",
        "segmenter",
        "segmenter on a CPU",
    ],
)
def test_a_process_imports_only_what_it_uses(process: str, heavy: list[str]) -> None:
    """What each deployment imports, and what it imports in its constructor and its calls."""
    code = f"import sys; {process}; print([module for module in {HEAVY} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str(heavy)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_profiles_are_strictly_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_SECRET", "x" * 32)  # which config/cluster.yaml expects
    written = yaml.safe_load(path.read_text())
    ServeDeploySchema.model_validate(written)
    assert unknown_keys(ServeDeploySchema, written) == []
    settings = Profile.load(path).settings
    chosen = {settings.segmenter_for(variant).device for variant in Variant}
    assert chosen == {"cpu" if path.name == "local.yaml" else "cuda"}


@pytest.mark.parametrize(
    ("typo", "where"),
    [({"applications": [{"nmae": "x"}]}, "applications.nmae"), ({"proxy": "HeadOnly"}, "proxy")],
)
def test_a_typo_in_a_profile_shows(typo: dict[str, Any], where: str) -> None:
    assert unknown_keys(ServeDeploySchema, typo) == [where]


def test_a_typo_in_the_arguments_is_refused() -> None:
    with pytest.raises(ValidationError, match="segmentor"):
        Settings.model_validate({"segmentor": {}})


def test_the_warm_variant_keeps_a_replica() -> None:
    settings = Settings(warm=Variant.MATTING)
    assert settings.segmenter_for(Variant.MATTING).scale.min_replicas == 1
    assert settings.segmenter_for(Variant.LIGHT).scale.min_replicas == 0


def test_the_environment_reaches_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIREFNET_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BIREFNET_FILES__PORT", "9000")
    settings = Profile.load(ROOT / "config" / "local.yaml").settings  # whose own port is 8001
    assert settings.data_dir == tmp_path
    assert settings.files.port == 9000
    assert settings.files.host == "127.0.0.1"
    flags = Profile.load(ROOT / "config" / "local.yaml", files={"port": 9100}).settings
    assert flags.files.port == 9100


def test_a_variants_settings_lie_over_the_common_ones() -> None:
    common = {"checkpoint": None, "device": "cuda", "num_gpus": 0.2, "scale": {"max_replicas": 3}}
    own = {Variant.MATTING: {"num_gpus": 1, "scale": {"max_ongoing": 4}}}
    settings = Settings(segmenter=common, segmenters=own, warm=None)
    chosen = settings.segmenter_for(Variant.MATTING)
    assert (chosen.checkpoint, chosen.device, chosen.num_gpus) == (None, "cuda", 1)
    assert (chosen.scale.max_replicas, chosen.scale.max_ongoing) == (3, 4)
    assert settings.segmenter_for(Variant.HEAVY).num_gpus == 0.2


def test_compiled_networks_lie_in_the_data_directory_unless_a_directory_is_named(tmp_path: Path) -> None:
    own = {Variant.MATTING: {"cache": tmp_path / "own"}}
    settings = Settings(data_dir=tmp_path, segmenters=own)
    assert settings.segmenter_for(Variant.LIGHT).cache == settings.engines_dir == tmp_path / "engines"
    assert settings.segmenter_for(Variant.MATTING).cache == tmp_path / "own"
    named = Settings(data_dir=tmp_path, segmenter={"cache": tmp_path / "named"})
    assert named.segmenter_for(Variant.LIGHT).cache == named.engines_dir == tmp_path / "named"


def test_a_typo_in_a_profile_is_a_start_error(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    application = {"import_path": "serve_app.app:build", "args": {"chunk": {"max": 1}}}
    path.write_text(yaml.safe_dump({"applications": [application]}))
    with pytest.raises(StartError, match="not a valid profile"):
        Profile.load(path)


def test_a_file_that_is_no_profile_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("applications: [{name: a, import_path: 'other:app'}]")
    with pytest.raises(StartError, match="import_path must be"):
        Profile.load(path)


def test_overrides_keep_their_neighbours(tmp_path: Path) -> None:
    profile = Profile.load(ROOT / "config" / "local.yaml", 8123, files={"port": 9001}, data_dir=tmp_path)
    assert (profile.port, profile.settings.files.port, profile.settings.files.host) == (
        8123,
        9001,
        "127.0.0.1",
    )
    assert profile.settings.database_url.endswith("/jobs.sqlite")
