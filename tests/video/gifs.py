"""Reading a GIF as a player does, block by block; the pixels themselves come from Pillow and from FFmpeg."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageSequence


@dataclass(frozen=True)
class Block:
    """One image: where it lies, how long it is shown, what becomes of it, which index is not there."""

    box: tuple[int, int, int, int]  # left, top, width, height
    ticks: int
    disposal: int
    transparent: int | None


@dataclass(frozen=True)
class Structure:
    size: tuple[int, int]
    colours: int  # in the table that all images share
    loops: int | None  # 0: for ever
    images: list[Block]


def structure(path: Path) -> Structure:
    """The blocks of a file. Fails on any that we do not write, and on a local colour table."""
    data = path.read_bytes()
    assert data[:6] == b"GIF89a" and data[10] & 0x80
    colours = 2 << (data[10] & 7)
    at, loops, images, control = 13 + 3 * colours, None, [], b""
    while data[at] != 0x3B:
        if data[at] == 0x21:
            label, at = data[at + 1], at + 2
            body = data[at + 1 : at + 1 + data[at]]
            if label == 0xFF and body == b"NETSCAPE2.0":
                loops = int.from_bytes(data[at + 14 : at + 16], "little")
            elif label == 0xF9:
                control = body
        else:
            assert data[at] == 0x2C and not data[at + 9] & 0x80
            left, top, width, height = (
                int.from_bytes(data[at + n : at + n + 2], "little") for n in (1, 3, 5, 7)
            )
            transparent = control[3] if control[0] & 1 else None
            ticks = int.from_bytes(control[1:3], "little")
            images.append(Block((left, top, width, height), ticks, control[0] >> 2 & 7, transparent))
            at += 11
        while data[at]:
            at += 1 + data[at]
        at += 1
    assert at == len(data) - 1
    size = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return Structure(size, colours, loops, images)


def played(path: Path) -> np.ndarray:
    """What is on the canvas at each image, RGBA [N, H, W, 4]; two players have to agree."""
    with Image.open(path) as file:
        ours = np.stack([np.asarray(image.convert("RGBA")) for image in ImageSequence.Iterator(file)])
    with av.open(str(path)) as container:
        theirs = np.stack([frame.to_ndarray(format="rgba") for frame in container.decode(video=0)])
    there = ours[..., 3].astype(bool)
    assert np.array_equal(there, theirs[..., 3].astype(bool))
    assert np.array_equal(ours[there], theirs[there])
    return ours
