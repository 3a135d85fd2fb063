"""Value objects that pass between the stages check themselves, and say what does not fit."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from serve_app.picture import Frames, PixelLayout
from serve_app.protocols import Cutout, Provenance

ODD = PixelLayout(33, 17)
DEEP = PixelLayout(6, 4, subsampling="422", depth=10, alpha=True)
SOMETHING = Provenance("checkpoint", "cpu", "openvino float32", (256, 256))


def frames(layout: PixelLayout = ODD, count: int = 3, **changes: Any) -> Frames:
    parts: dict[str, Any] = {
        "planes": tuple(np.zeros((count, *size), layout.sample_type) for size in layout.plane_sizes),
        "layout": layout,
        "pts": np.arange(count, dtype=np.int64) * 512,
        "time_base": Fraction(1, 12800),
    }
    return Frames(**(parts | changes))


def ticks(*values: int, dtype: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    return np.array(values, dtype)


@pytest.mark.parametrize("layout", [ODD, DEEP, PixelLayout(1, 1, matrix="rgb", subsampling="444")])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_frames_that_fit(layout: PixelLayout, count: int) -> None:
    assert len(frames(layout, count)) == count


def test_what_arrives_is_read_only_and_not_copied() -> None:
    planes = frames().planes
    for plane in planes:
        plane.flags.writeable = False
    assert all(a is b for a, b in zip(frames(planes=planes).planes, planes, strict=True))


@pytest.mark.parametrize(
    ("layout", "changes", "error", "said"),
    [
        (ODD, {"planes": frames().planes[:2]}, ValueError, "the layout has 3 planes, not 2"),
        (ODD, {"planes": frames(replace(ODD, alpha=True)).planes}, ValueError, "3 planes, not 4"),
        (DEEP, {"planes": frames(DEEP).planes[:3]}, ValueError, "the layout has 4 planes, not 3"),
        (
            ODD,
            {"planes": frames(replace(ODD, subsampling="444")).planes},
            ValueError,
            r"plane 1 must have the shape \(3, 9, 17\), not \(3, 17, 33\)",
        ),
        (ODD, {"planes": frames(count=2).planes}, ValueError, r"plane 0 .*\(3, 17, 33\), not \(2, 17, 33\)"),
        (
            ODD,
            {"planes": frames(replace(ODD, depth=10)).planes},
            TypeError,
            "plane 0 must have the type uint8, not uint16",
        ),
        (
            DEEP,
            {"planes": frames(replace(DEEP, depth=8)).planes},
            TypeError,
            "must have the type uint16, not uint8",
        ),
        (ODD, {"pts": ticks(0, 1, 2, dtype=np.int32)}, TypeError, "pts must have the type int64, not int32"),
        (ODD, {"pts": ticks(0, 1)}, ValueError, r"plane 0 must have the shape \(2, 17, 33\)"),
        (
            ODD,
            {"pts": ticks(0, 1, 2).reshape(1, 3)},
            ValueError,
            r"pts must have the shape \(3,\), not \(1, 3\)",
        ),
        (ODD, {"pts": ticks(0, 7, 7)}, ValueError, "frame 2 at 7 follows frame 1 at 7"),
        (ODD, {"pts": ticks(5, 4, 6)}, ValueError, "frame 1 at 4 follows frame 0 at 5"),
    ],
)
def test_frames_that_do_not_fit(
    layout: PixelLayout, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        frames(layout, **changes)


def test_a_cutout_that_fits() -> None:
    matte = np.zeros((3, 17, 33), np.uint8)
    assert Cutout(frames(), matte, SOMETHING, 0.5).matte is matte


@pytest.mark.parametrize(
    ("colour", "matte", "error", "said"),
    [
        (
            frames(),
            np.zeros((3, 17, 33), np.float32),
            TypeError,
            "matte must have the type uint8, not float32",
        ),
        (
            frames(),
            np.zeros((2, 17, 33), np.uint8),
            ValueError,
            r"matte must .*\(3, 17, 33\), not \(2, 17, 33\)",
        ),
        (frames(), np.zeros((3, 33, 17), np.uint8), ValueError, r"\(3, 17, 33\), not \(3, 33, 17\)"),
        (frames(), np.zeros((3, 1, 17, 33), np.uint8), ValueError, r"not \(3, 1, 17, 33\)"),
        (frames(DEEP), np.zeros((3, 4, 6), np.uint8), ValueError, "no alpha plane"),
    ],
)
def test_a_cutout_that_does_not_fit(
    colour: Frames, matte: npt.NDArray[Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Cutout(colour, matte, SOMETHING, 0.5)


def test_what_arrives_is_not_checked_again() -> None:
    """The arrays are the sender's: it has checked them, and a chunk is 100 MB."""
    whole = frames()
    short = whole.planes[:2]
    object.__setattr__(whole, "planes", short)
    arrived = pickle.loads(pickle.dumps(whole))
    assert len(arrived.planes) == 2
    with pytest.raises(ValueError, match="3 planes, not 2"):
        replace(arrived)
