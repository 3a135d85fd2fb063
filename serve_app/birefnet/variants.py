"""The six variants of the endpoint, in one table."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.fal import Variant

LICENCE = (
    "MIT (code and weights). The author does not claim that this settles the terms of the DIS5K training set "
    "(issue 306 of his repository)."
)


@dataclass(frozen=True, slots=True)
class VariantFacts:
    """Where a variant's official weights are and what they are. `trained` is width x height."""

    key: str
    repository: str
    backbone: str
    trained: str
    licence: str = LICENCE

    def source(self, checkpoint: str | None) -> str:
        """What is loaded: the `checkpoint` of the settings, or else the official repository."""
        return checkpoint or self.repository


VARIANTS: dict[Variant, VariantFacts] = {
    Variant.LIGHT: VariantFacts("light", "ZhengPeng7/BiRefNet", "swin_v1_l", "1024x1024"),
    Variant.LIGHT_2K: VariantFacts("light-2k", "ZhengPeng7/BiRefNet_lite-2K", "swin_v1_t", "2560x1440"),
    Variant.HEAVY: VariantFacts("heavy", "ZhengPeng7/BiRefNet_lite", "swin_v1_t", "1024x1024"),
    Variant.MATTING: VariantFacts("matting", "ZhengPeng7/BiRefNet-matting", "swin_v1_l", "1024x1024"),
    Variant.PORTRAIT: VariantFacts("portrait", "ZhengPeng7/BiRefNet-portrait", "swin_v1_l", "1024x1024"),
    Variant.DYNAMIC: VariantFacts(
        "dynamic", "ZhengPeng7/BiRefNet_dynamic", "swin_v1_l", "256x256 to 2304x2304"
    ),
}
