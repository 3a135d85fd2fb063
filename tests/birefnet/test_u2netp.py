"""The backbone of the embedded checkpoint: shapes, sizes and names; its weights are checked by the training code."""

import pytest
import torch
from torch import Tensor

from serve_app.birefnet.u2netp import ResidualUBlock, U2NetP, pooled_block


@pytest.fixture(scope="module")
def backbone() -> U2NetP:
    torch.manual_seed(7)
    return U2NetP().eval()


def run(backbone: U2NetP, image: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        levels: tuple[Tensor, ...] = backbone(image)
    return levels


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (160, 224)])
def test_the_levels_have_the_announced_strides_and_widths(backbone: U2NetP, height: int, width: int) -> None:
    levels = run(backbone, torch.randn(2, 3, height, width))
    expected = [
        (2, c, height // s, width // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(level.shape) for level in levels] == expected


def test_the_same_image_gives_the_same_features(backbone: U2NetP) -> None:
    image = torch.randn(1, 3, 64, 96)
    for first, second in zip(run(backbone, image), run(backbone, image.clone()), strict=True):
        assert torch.equal(first, second)


def test_images_of_a_batch_do_not_influence_each_other(backbone: U2NetP) -> None:
    images = torch.randn(3, 3, 64, 64)
    for batch, single in zip(run(backbone, images), run(backbone, images[1:2]), strict=True):
        torch.testing.assert_close(batch[1:2], single, rtol=1e-4, atol=1e-5)


def test_a_wide_object_reaches_every_level(backbone: U2NetP) -> None:
    """The lowest level sees the whole picture, so a change in one corner shows in the opposite one."""
    image = torch.zeros(1, 3, 64, 64)
    changed = image.clone()
    changed[..., :8, :8] = 3.0
    before, after = run(backbone, image)[3], run(backbone, changed)[3]
    assert not torch.equal(before[..., -1, -1], after[..., -1, -1])


def test_parameter_names_follow_the_authors(backbone: U2NetP) -> None:
    names = set(backbone.state_dict())
    assert {
        "stage1.rebnconvin.conv.weight",
        "stage1.rebnconv7.conv.bias",
        "stage2d.rebnconv1d.conv.weight",
    } <= names
    assert not any(name.startswith(("stage1d", "side", "outconv")) for name in names)


def test_only_the_pooled_blocks_change_the_resolution_inside() -> None:
    sizes: list[tuple[int, int]] = []
    block = pooled_block(5, 3)
    block.get_submodule("rebnconv5").register_forward_hook(
        lambda _m, _i, out: sizes.append(tuple(out.shape[-2:]))
    )
    assert block(torch.randn(1, 3, 33, 47)).shape == (1, 64, 33, 47)
    assert sizes == [(5, 6)]  # 33 and 47 halved three times, rounded up

    dilated = ResidualUBlock(3, 16, 64, [1, 2, 4, 8], pooled=False)
    dilated.get_submodule("rebnconv4").register_forward_hook(
        lambda _m, _i, out: sizes.append(tuple(out.shape[-2:]))
    )
    dilated(torch.randn(1, 3, 33, 47))
    assert sizes[-1] == (33, 47)
