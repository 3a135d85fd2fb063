"""Strict loading, on directories of the published shape: what is wrong with a file must be said, not filled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app.birefnet.checkpoints import EMBEDDED_DIR, TRAIN_ONLY, find
from serve_app.birefnet.variants import VARIANTS
from serve_app.errors import CheckpointMismatch, CheckpointMissing
from serve_app.fal import Variant
from serve_app.settings import SegmenterSettings
from tests.birefnet import reference

SETTINGS = SegmenterSettings()
Weights = dict[str, torch.Tensor]
PUBLISHED_CONFIG = {  # no architecture, remote code, and a model type that belongs to another network
    "architectures": ["BiRefNet"],
    "auto_map": {
        "AutoConfig": "BiRefNet_config.BiRefNetConfig",
        "AutoModelForImageSegmentation": "birefnet.BiRefNet",
    },
    "bb_pretrained": False,
    "model_type": "SegformerForSemanticSegmentation",
}


def published(directory: Path, weights: Weights) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(PUBLISHED_CONFIG))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return str(directory)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return {k: torch.from_numpy(v) for k, v in reference.state_dict("swin_v1_t").items()}


@pytest.mark.parametrize("backbone", ["swin_v1_t", "swin_v1_l"])
def test_a_published_directory_loads_whole(tmp_path: Path, backbone: str) -> None:
    made = {k: torch.from_numpy(v) for k, v in reference.state_dict(backbone).items()}
    checkpoint = find(published(tmp_path / "it", made), SETTINGS)
    network = checkpoint.network()
    loaded = network.state_dict()
    assert network.config.backbone == backbone
    assert checkpoint.max_size is None
    assert all(torch.equal(loaded[k], v) for k, v in made.items())
    assert not network.training


def test_a_float32_file_has_the_published_size(tmp_path: Path, weights: Weights) -> None:
    directory = published(tmp_path / "it", weights)
    assert (Path(directory) / "model.safetensors").stat().st_size == 177_634_392


def test_a_missing_key_is_named(tmp_path: Path, weights: Weights) -> None:
    key = "decoder.conv_out1.0.weight"
    broken = {k: v for k, v in weights.items() if k != key}
    with pytest.raises(CheckpointMismatch, match=f"1 missing .{key}"):
        find(published(tmp_path / "it", broken), SETTINGS)


def test_an_unexpected_key_is_named(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(CheckpointMismatch, match=r"1 unexpected .decoder\.extra"):
        find(published(tmp_path / "it", weights | {"decoder.extra": torch.zeros(1)}), SETTINGS)


def test_a_wrong_shape_is_named(tmp_path: Path, weights: Weights) -> None:
    key = "squeeze_module.0.conv_in.bias"
    with pytest.raises(CheckpointMismatch, match=rf"{key}: \(65,\) instead of \(64,\)"):
        find(published(tmp_path / "it", weights | {key: torch.zeros(65)}), SETTINGS)


def test_entries_for_training_alone_may_be_absent(tmp_path: Path, weights: Weights) -> None:
    lean = {k: v for k, v in weights.items() if not k.startswith(TRAIN_ONLY)}
    assert len(weights) - len(lean) == 12
    loaded = find(published(tmp_path / "it", lean), SETTINGS).network().state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in lean.items())


def test_a_float16_file_runs_in_float32(tmp_path: Path, weights: Weights) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    model = find(published(tmp_path / "it", half), SETTINGS).network()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    indices = [b for name, b in model.named_buffers() if name.endswith("relative_position_index")]
    assert {index.dtype for index in indices} == {torch.int64}
    pixels = torch.from_numpy(reference.image(3, (1, 3, 64, 64)))
    with torch.inference_mode():
        logits = model(pixels).logits
    assert logits.isfinite().all()


def test_the_dtype_asked_for_is_the_dtype_given(tmp_path: Path, weights: Weights) -> None:
    model = find(published(tmp_path / "it", weights), SETTINGS).network(torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="does not exist"):
        find(str(tmp_path / "nowhere"), SETTINGS)


def test_a_directory_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match=r"must hold model\.safetensors"):
        find(str(tmp_path), SETTINGS)


def test_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint at all")
    with pytest.raises(CheckpointMismatch, match="not a safetensors file"):
        find(str(tmp_path), SETTINGS)


def test_another_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="no BiRefNet checkpoint"):
        find(published(tmp_path / "it", {"conv.weight": torch.zeros(3, 3)}), SETTINGS)


def test_a_hub_that_cannot_be_reached_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Port 9 of loopback answers nobody: the hub's client is the real one."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointMissing, match=r"cannot be had from the hub.*`embedded`"):
        find("ZhengPeng7/BiRefNet", SETTINGS)


def test_the_embedded_checkpoint_is_small_and_loads() -> None:
    checkpoint = find("embedded", SETTINGS)
    assert (EMBEDDED_DIR / "model.safetensors").stat().st_size <= 4 << 20
    assert 1_000_000 <= checkpoint.network().num_parameters() <= 2_000_000
    assert checkpoint.max_size == 256
    stored = load_file(EMBEDDED_DIR / "model.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.float16, torch.int64}


def test_every_variant_has_a_repository() -> None:
    assert set(VARIANTS) == set(Variant)
    assert len({facts.repository for facts in VARIANTS.values()}) == 6
    assert len({facts.key for facts in VARIANTS.values()}) == 6
