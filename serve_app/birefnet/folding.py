"""What follows from the weights alone, computed once: for a network that is neither trained nor saved any more."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from serve_app.birefnet.deformable import DeformableBranch, DeformablePyramid
from serve_app.birefnet.modeling import BiRefNetForImageSegmentation, Decoder, DecoderBlock
from serve_app.birefnet.swin import SwinBlock

# (convolution, batch norm after it) in each kind of module.
PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    DecoderBlock: (("conv_in", "bn_in"), ("conv_out", "bn_out")),
    DeformableBranch: (("atrous_conv.regular_conv", "bn"),),
    DeformablePyramid: (("conv1", "bn1"), ("global_avg_pool.1", "global_avg_pool.2")),
    Decoder: tuple((f"gdt_convs_{step}.0", f"gdt_convs_{step}.1") for step in (4, 3, 2)),
}


def fold(network: BiRefNetForImageSegmentation) -> BiRefNetForImageSegmentation:
    """Batch norms into the convolutions before them, position biases with their masks: the same logits, to rounding.

    Changes `network`, which should be in float32: rounding comes after folding.
    """
    for module in network.modules():
        for convolution, norm in PAIRS.get(type(module), ()):
            before, after = module.get_submodule(convolution), module.get_submodule(norm)
            assert isinstance(before, nn.Conv2d)
            assert isinstance(after, nn.BatchNorm2d)
            module.set_submodule(convolution, fuse_conv_bn_eval(before, after))
            module.set_submodule(norm, nn.Identity())
        if isinstance(module, SwinBlock):
            module.attn.keep_biases(module.shift)
    return network
