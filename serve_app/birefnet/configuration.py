"""Configuration of BiRefNet: every switch in which the published and the embedded checkpoints differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from transformers import PretrainedConfig

TileOrder = Literal["colour_first", "position_first"]


@dataclass(frozen=True, slots=True)
class SwinShape:
    """Sizes of a Swin v1 backbone (Liu et al., ICCV 2021, table 7)."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: int


SWIN: dict[str, SwinShape] = {
    "swin_v1_t": SwinShape(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_v1_l": SwinShape(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
U2NETP_WIDTHS = (64, 64, 64, 64)


class BiRefNetConfig(PretrainedConfig):
    """Defaults are those of the published large checkpoint.

    backbone: "swin_v1_l", "swin_v1_t" or "u2netp".
    multi_scale_input: the backbone sees the image a second time at half size.
    decoder_attention: decoder blocks hold the deformable pyramid.
    squeeze_blocks: decoder blocks on the lowest level before the decoder.
    inner_width: channels inside a decoder block; image_width: inside a block that reads image tiles;
    image_divisor: a level's channels over those that its image tiles contribute.
    tile_order: how image tiles become channels. "colour_first" is the official code since November 2024;
    before, the grid column was outermost ("position_first"). The checkpoints did not change with the code.
    bears_bfloat16: its mattes are as good when the network computes in bfloat16; the published checkpoints were made
    with mixed precision and are offered for half precision by their authors.
    """

    model_type = "birefnet"

    def __init__(
        self,
        backbone: str = "swin_v1_l",
        multi_scale_input: bool = True,
        decoder_attention: bool = True,
        squeeze_blocks: int = 1,
        inner_width: int = 64,
        image_width: int = 64,
        image_divisor: int = 8,
        tile_order: TileOrder = "colour_first",
        bears_bfloat16: bool = True,
        **kwargs: Any,
    ) -> None:
        if backbone not in (*SWIN, "u2netp"):
            raise ValueError(f"backbone {backbone!r} is unknown: use one of {[*SWIN, 'u2netp']}")
        if tile_order not in ("colour_first", "position_first"):
            raise ValueError(f"tile_order {tile_order!r} is unknown: use 'colour_first' or 'position_first'")
        if squeeze_blocks < 1:
            raise ValueError("squeeze_blocks must be 1 or more: the first one takes the joined context")
        self.backbone = backbone
        self.multi_scale_input = multi_scale_input
        self.decoder_attention = decoder_attention
        self.squeeze_blocks = squeeze_blocks
        self.inner_width = inner_width
        self.image_width = image_width
        self.image_divisor = image_divisor
        self.tile_order = tile_order
        self.bears_bfloat16 = bears_bfloat16
        super().__init__(**kwargs)

    @classmethod
    def for_backbone(cls, backbone: str, **overrides: Any) -> BiRefNetConfig:
        """The configuration that goes with a backbone: the published ones, or the embedded checkpoint's."""
        small: dict[str, Any] = {}
        if backbone == "u2netp":
            small = {
                "multi_scale_input": False,
                "decoder_attention": False,
                "image_width": 16,
                "image_divisor": 4,
                "bears_bfloat16": False,
            }
        return cls(backbone=backbone, **(small | overrides))

    @property
    def level_widths(self) -> tuple[int, int, int, int]:
        """Channels of the four joined encoder levels, finest first."""
        if self.backbone == "u2netp":
            widths = U2NETP_WIDTHS
        else:
            base = SWIN[self.backbone].width
            widths = (base, base * 2, base * 4, base * 8)
        factor = 2 if self.multi_scale_input else 1
        return (widths[0] * factor, widths[1] * factor, widths[2] * factor, widths[3] * factor)
