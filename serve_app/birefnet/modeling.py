"""BiRefNet (Zheng et al., CAAI AIR 2024): backbone at two scales, squeeze block, decoder fed with image tiles.

Written from the published description; state dict and outputs equal those of the official code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageSegmentation, PreTrainedModel
from transformers.utils import ModelOutput

from serve_app.birefnet.configuration import SWIN, BiRefNetConfig, TileOrder
from serve_app.birefnet.deformable import DeformablePyramid
from serve_app.birefnet.swin import SwinBackbone
from serve_app.birefnet.u2netp import U2NetP


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize with aligned corners to the height and width of `like`."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def tiles(image: Tensor, size: torch.Size, order: TileOrder) -> Tensor:
    """Cut N 3 H W into tiles of `size` = (h, w) and stack them as channels: N, 3 * H/h * W/w, h, w."""
    n, colours, height, width = image.shape
    rows, cols = height // size[0], width // size[1]
    grid = image.view(n, colours, rows, size[0], cols, size[1])
    axes = (0, 1, 2, 4, 3, 5) if order == "colour_first" else (0, 4, 2, 1, 3, 5)
    return grid.permute(*axes).reshape(n, colours * rows * cols, size[0], size[1])


class ImageBlock(nn.Module):
    """Two 3x3 convolutions with nothing between: what a decoder step sees of the image itself."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_out(self.conv1(x))
        return out


class DecoderBlock(nn.Module):
    """3x3 convolution to the inner width, batch norm, ReLU, optional pyramid, 3x3 convolution, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, config: BiRefNetConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, config.inner_width, 3, padding=1)
        self.dec_att = DeformablePyramid(config.inner_width) if config.decoder_attention else nn.Identity()
        self.conv_out = nn.Conv2d(config.inner_width, out_channels, 3, padding=1)
        self.bn_in = nn.BatchNorm2d(config.inner_width)
        self.bn_out = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dec_att(F.relu(self.bn_in(self.conv_in(x))))
        out: Tensor = self.bn_out(self.conv_out(x))
        return out


class LateralBlock(nn.Module):
    """1x1 convolution of an encoder level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Decoder(nn.Module):
    """Four steps from the coarsest level to the finest, then logits at full size.

    `conv_ms_spvn_*` (side outputs) and `gdt_convs_pred_*` (gradient prediction) serve training alone.
    """

    def __init__(self, config: BiRefNetConfig, tile_grids: tuple[int, ...]) -> None:
        super().__init__()
        self.tile_order: TileOrder = config.tile_order
        c1, c2, c3, c4 = config.level_widths
        inputs = {4: c4, 3: c3, 2: c2, 1: c1}
        outputs = {4: c3, 3: c2, 2: c1, 1: c1 // 2}
        image = {5: c4, 4: c4, 3: c3, 2: c2, 1: c1}
        image = {step: width // config.image_divisor for step, width in image.items()}
        for step, grid in zip((5, 4, 3, 2), reversed(tile_grids), strict=True):
            tiled = ImageBlock(3 * grid * grid, image[step], config.image_width)
            self.add_module(f"ipt_blk{step}", tiled)
        self.ipt_blk1 = ImageBlock(3, image[1], config.image_width)
        for step in (4, 3, 2, 1):
            block = DecoderBlock(inputs[step] + image[step + 1], outputs[step], config)
            self.add_module(f"decoder_block{step}", block)
        self.conv_out1 = nn.Sequential(nn.Conv2d(outputs[1] + image[1], 1, 1))
        for step in (4, 3, 2):
            self.add_module(f"lateral_block{step}", LateralBlock(outputs[step]))
        for step in (4, 3, 2):
            self.add_module(f"conv_ms_spvn_{step}", nn.Conv2d(outputs[step], 1, 1))
        for step in (4, 3, 2):
            gate = nn.Sequential(nn.Conv2d(outputs[step], 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
            self.add_module(f"gdt_convs_{step}", gate)
        for role in ("pred", "attn"):
            for step in (4, 3, 2):
                self.add_module(f"gdt_convs_{role}_{step}", nn.Sequential(nn.Conv2d(16, 1, 1)))

    def forward(self, image: Tensor, levels: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """Logits N 1 H W and the decoder maps after steps 4, 3, 2 (before their gates)."""
        part = self.get_submodule
        p = levels[3]
        ungated = []
        for step in (4, 3, 2, 1):
            seen = part(f"ipt_blk{step + 1}")(tiles(image, p.shape[-2:], self.tile_order))
            p = part(f"decoder_block{step}")(torch.cat((p, seen), dim=1))
            if step == 1:
                break
            ungated.append(p)
            p = p * torch.sigmoid(part(f"gdt_convs_attn_{step}")(part(f"gdt_convs_{step}")(p)))
            level = levels[step - 2]
            p = resize_to(p, level) + part(f"lateral_block{step}")(level)
        # A 1x1 convolution commutes with the resize: one channel is resized instead of all. Its other part goes into
        # the convolution before it.
        last = self.conv_out1[0]
        assert isinstance(last, nn.Conv2d)
        own = p.shape[1]
        coarse = resize_to(F.conv2d(p, last.weight[:, :own]), image)
        mixing, before = last.weight[:, own:], self.ipt_blk1.conv_out
        assert last.bias is not None
        assert before.bias is not None
        weight = torch.einsum("oc,cikl->oikl", mixing[:, :, 0, 0], before.weight)
        bias = last.bias + mixing[:, :, 0, 0] @ before.bias
        return coarse + F.conv2d(self.ipt_blk1.conv1(image), weight, bias, padding=1), ungated


@dataclass
class BiRefNetOutput(ModelOutput):
    """`logits`: N 1 H W before the sigmoid. `side_logits`: coarse maps of the decoder, coarsest first."""

    logits: Tensor | None = None
    side_logits: tuple[Tensor, ...] | None = None


class BiRefNetForImageSegmentation(PreTrainedModel):
    """The whole network. Height and width of the input must be multiples of 32."""

    config_class = BiRefNetConfig
    base_model_prefix = "birefnet"
    main_input_name = "pixel_values"
    _no_split_modules = ("SwinBlock", "DecoderBlock")

    def __init__(self, config: BiRefNetConfig) -> None:
        super().__init__(config)
        swin = config.backbone in SWIN
        self.bb = SwinBackbone(SWIN[config.backbone]) if swin else U2NetP()
        widths = config.level_widths
        self.squeeze_module = nn.Sequential(
            *(
                DecoderBlock(widths[3] if i else sum(widths), widths[3], config)
                for i in range(config.squeeze_blocks)
            )
        )
        self.decoder = Decoder(config, (4, 8, 16, 32) if swin else U2NetP.strides)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def levels(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """The four encoder levels, finest first: the half-size pass joined behind the full one."""
        maps: tuple[Tensor, ...] = self.bb(pixel_values)
        if not self.config.multi_scale_input:
            return maps
        height, width = pixel_values.shape[-2:]
        half = F.interpolate(
            pixel_values, size=(height // 2, width // 2), mode="bilinear", align_corners=True
        )
        return tuple(
            torch.cat((full, resize_to(small, full)), dim=1)
            for full, small in zip(maps, self.bb(half), strict=True)
        )

    def forward(self, pixel_values: Tensor, side_outputs: bool = False) -> BiRefNetOutput:
        """pixel_values: N 3 H W, ImageNet-normalised RGB, in the dtype of the weights."""
        height, width = pixel_values.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"height and width must be multiples of 32, got {height}x{width}")
        x1, x2, x3, x4 = self.levels(pixel_values)
        x4 = self.squeeze_module(torch.cat([resize_to(x, x4) for x in (x1, x2, x3)] + [x4], dim=1))
        logits, maps = self.decoder(pixel_values, (x1, x2, x3, x4))
        side = None
        if side_outputs:
            heads = [self.decoder.get_submodule(f"conv_ms_spvn_{step}") for step in (4, 3, 2)]
            side = tuple(head(p) for head, p in zip(heads, maps, strict=True))
        return BiRefNetOutput(logits=logits, side_logits=side)


AutoConfig.register("birefnet", BiRefNetConfig)
AutoModelForImageSegmentation.register(BiRefNetConfig, BiRefNetForImageSegmentation)
