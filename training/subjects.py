"""Subjects for composites: rendered figures and cut-outs of real pictures, as premultiplied layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 256
CUT_OUT_SHARE = 0.3


def premultiplied(image: Image.Image) -> Image.Image:
    """Mode RGBa: the only one in which resizing and blurring keep edges clean."""
    return image.convert("RGBA").convert("RGBa")


def cut_out(item: np.ndarray) -> Image.Image:
    """The subject of a labelled picture, its soft rim pulled in so that no background comes along."""
    alpha = np.clip((item[..., 3].astype(np.float32) - 70) * (255 / 150), 0, 255).astype(np.uint8)
    rgba = Image.fromarray(np.dstack((item[..., :3], alpha)), "RGBA")
    box = rgba.getchannel("A").point(lambda a: 255 if a > 40 else 0).getbbox()
    return rgba.crop(box) if box else rgba


def with_strands(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Hair along the upper outline, drawn at twice the size so that it covers fractions of a pixel.

    Colour and alpha come from the same strokes: a strand that is only in the colour would teach wrong outlines.
    """
    alpha = np.asarray(image.getchannel("A"))
    inside = alpha > 200
    rim = inside & ~(np.roll(inside, 2, 0) & np.roll(inside, 2, 1) & np.roll(inside, -2, 1))
    ys, xs = np.nonzero(rim)
    if len(ys) < 40:
        return image
    upper = np.flatnonzero(ys <= np.quantile(ys, rng.uniform(0.2, 0.7)))
    centre = np.array((np.nonzero(inside)[1].mean(), np.nonzero(inside)[0].mean()))
    scale = 2
    layer = Image.new("RGBA", (image.width * scale, image.height * scale))
    draw = ImageDraw.Draw(layer)
    pixels = np.asarray(image.convert("RGB"))
    length, bend = rng.uniform(6, 26), rng.normal(0, 0.6)
    for index in rng.choice(upper, int(rng.integers(30, 160))):
        root = np.array((xs[index], ys[index]), dtype=float)
        shade = np.clip(pixels[ys[index], xs[index]] * rng.uniform(0.6, 1.15), 0, 255).astype(int)
        outward = (root - centre) / (np.linalg.norm(root - centre) + 1e-6)
        sideways = np.array((-outward[1], outward[0])) * (bend + rng.normal(0, 0.35))
        reach = length * rng.uniform(0.3, 1.2)
        points = [root + outward * (reach * t - 2) + sideways * (reach * t * t) for t in (0, 0.3, 0.6, 1)]
        draw.line(
            [tuple(point * scale) for point in points],
            fill=(*shade, int(rng.integers(110, 256))),
            width=int(rng.integers(1, 3)),
        )
    strands = layer.convert("RGBa").resize(image.size, Image.Resampling.BOX).convert("RGBA")
    return Image.alpha_composite(strands, image)


class Subjects:
    """Draws subjects as size x size layers: premultiplied colour 0..255 and alpha 0..1.

    `real` are labelled pictures whose subjects are cut out; without them there are only renders.
    """

    def __init__(self, renders: list[Path], real: np.ndarray | None) -> None:
        self.renders, self.real = renders, real

    def image(self, rng: np.random.Generator) -> Image.Image:
        if self.real is not None and rng.random() < CUT_OUT_SHARE:
            picture = cut_out(self.real[rng.integers(len(self.real))])
        else:
            picture = Image.open(self.renders[rng.integers(len(self.renders))]).convert("RGBA")
            picture = picture.crop(picture.getchannel("A").getbbox() or (0, 0, *picture.size))
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return with_strands(rng, picture) if rng.random() < 0.35 else picture

    def layer(
        self, rng: np.random.Generator, share: float, place: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """A subject whose longer side is `share` of the canvas, its centre at `place`."""
        image = premultiplied(self.image(rng))
        # Video is wider than high and gets squeezed into a square, so narrow figures are the common case.
        width, height = image.width * rng.uniform(0.5, 1.1), image.height
        factor = share * SIZE / max(width, height)
        image = image.resize(
            (max(8, int(width * factor)), max(8, int(height * factor))), Image.Resampling.BICUBIC
        )
        if rng.random() < 0.4:
            image = image.rotate(rng.normal(0, 10), Image.Resampling.BICUBIC, expand=True)
        canvas = Image.new("RGBa", (SIZE, SIZE))
        corner = (int(place[0] * SIZE - image.width / 2), int(place[1] * SIZE - image.height / 2))
        canvas.paste(image, corner)
        if rng.random() < 0.3:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
        values = np.asarray(canvas, dtype=np.float32)
        return values[..., :3], values[..., 3:] / 255
