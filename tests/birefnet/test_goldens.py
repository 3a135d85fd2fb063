"""The network against reference results, name by name and number by number; planted errors must show."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from serve_app.birefnet import deformable as deform
from serve_app.birefnet import swin
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation, resize_to
from tests.birefnet import reference
from tests.birefnet.parity import BOUNDS, GOLDENS, backbone_of, errors, load_golden, make_network

Networks = Callable[[str], BiRefNetForImageSegmentation]
Plant = Callable[[pytest.MonkeyPatch, BiRefNetForImageSegmentation], None]


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Each network is made once."""
    return cache(make_network)


@pytest.mark.parametrize("backbone", ["swin_v1_t", "swin_v1_l"])
def test_state_dict_is_that_of_the_published_files(networks: Networks, backbone: str) -> None:
    published = {e["name"]: (tuple(e["shape"]), e["dtype"]) for e in reference.manifest(backbone)}
    ours = {
        k: (tuple(v.shape), str(v.dtype).removeprefix("torch."))
        for k, v in networks(backbone).state_dict().items()
    }
    assert list(ours) == list(published)
    assert ours == published


@pytest.mark.parametrize("name", GOLDENS)
def test_logits_and_inner_maps_equal_the_golden(networks: Networks, name: str) -> None:
    """Inner maps: each backbone level of both passes, the squeeze block and the decoder steps, at sampled positions."""
    network = networks(backbone_of(name))
    maps: dict[str, torch.Tensor] = {}
    passes_seen = iter(("bb_full", "bb_half"))

    def backbone(_module: object, _inputs: object, output: tuple[torch.Tensor, ...]) -> None:
        tag = next(passes_seen)
        maps.update({f"{tag}.x{i + 1}": x for i, x in enumerate(output)})

    def squeeze(_module: object, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        maps["squeeze_in"], maps["squeeze_out"] = inputs[0], output

    hooks = [
        network.bb.register_forward_hook(backbone),
        network.squeeze_module.register_forward_hook(squeeze),
    ]
    for step in (4, 3, 2, 1):
        block = network.decoder.get_submodule(f"decoder_block{step}")
        hooks.append(block.register_forward_hook(lambda _m, _i, out, s=step: maps.update({f"dec{s}": out})))
    try:
        found = errors(network, name)
    finally:
        for hook in hooks:
            hook.remove()
    assert found.within(BOUNDS[torch.float32]), found
    golden = load_golden(name)
    tags = [key.removeprefix("feat/") for key in golden if key.startswith("feat/")]
    assert sorted(tags) == sorted(maps)
    for tag in tags:
        assert tuple(maps[tag].shape) == tuple(golden[f"shape/{tag}"])
        flat = maps[tag].contiguous().flatten().numpy()
        sampled, wanted = flat[reference.positions(tag, flat.size)], golden[f"feat/{tag}"]
        rms = np.sqrt(((sampled - wanted) ** 2).mean()) / wanted.std()
        assert rms < BOUNDS[torch.float32].relative_rms, tag


def test_batch_equals_single(networks: Networks) -> None:
    network = networks("swin_v1_t")
    pixels = torch.from_numpy(reference.image(7, (3, 3, 96, 160)))
    with torch.inference_mode():
        together = network(pixels).logits
        alone = torch.cat([network(pixels[i : i + 1]).logits for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_sizes_that_are_no_multiple_of_32_are_refused(networks: Networks) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        networks("swin_v1_t")(torch.zeros(1, 3, 100, 96))


def tanh_gelu(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    exact = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))


def small_epsilon(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            monkeypatch.setattr(module, "eps", 1e-6)


def old_tile_order(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    monkeypatch.setattr(network.decoder, "tile_order", "position_first")


def swapped_offsets(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    right = deform.sample_positions

    def wrong(offset: torch.Tensor, kernel: int) -> torch.Tensor:
        return right(offset.view(len(offset), -1, 2, *offset.shape[2:]).flip(2).flatten(1, 2), kernel)

    monkeypatch.setattr(deform, "sample_positions", wrong)


def unmasked_windows(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    monkeypatch.setattr(
        swin, "region_mask", lambda window, shift, row, col, like: torch.zeros(window**2, window**2)
    )


def transposed_bias_index(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    for module in network.modules():
        if isinstance(module, swin.WindowAttention):
            index = module.get_buffer("relative_position_index")
            monkeypatch.setitem(module._buffers, "relative_position_index", index.T.contiguous())


def align_corners_off(monkeypatch: pytest.MonkeyPatch, network: BiRefNetForImageSegmentation) -> None:
    def wrong(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

    monkeypatch.setitem(BiRefNetForImageSegmentation.levels.__globals__, "resize_to", wrong)
    assert resize_to is not wrong


@pytest.mark.parametrize(
    "plant",
    [
        tanh_gelu,
        small_epsilon,
        old_tile_order,
        swapped_offsets,
        unmasked_windows,
        transposed_bias_index,
        align_corners_off,
    ],
)
def test_a_planted_error_shows(networks: Networks, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    network = networks("swin_v1_t")
    plant(monkeypatch, network)
    found = errors(network, "swin_v1_t_320x224")
    assert not found.within(BOUNDS[torch.float32]), found


@pytest.mark.long
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_within_its_bounds(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """On a CPU, with the same steps as on a GPU; and an error in the network is not within them."""
    network = make_network("swin_v1_t").to(dtype)
    found = errors(network, "swin_v1_t_320x224")
    assert found.within(BOUNDS[dtype]), found
    assert not found.within(BOUNDS[torch.float32]), found
    swapped_offsets(monkeypatch, network)
    assert not errors(network, "swin_v1_t_320x224").within(BOUNDS[dtype])
