"""Checks of the shape and type of arrays. They do not read samples, so every value object can afford them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def check_array(what: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raise TypeError if the sample type of `array` is not `dtype`, ValueError if its shape is not `shape`."""
    if array.dtype != dtype:
        raise TypeError(f"{what} must have the type {np.dtype(dtype)}, not {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{what} must have the shape {shape}, not {array.shape}")


def check_frames(
    planes: tuple[npt.NDArray[Any], ...],
    sizes: tuple[tuple[int, int], ...],
    dtype: npt.DTypeLike,
    pts: npt.NDArray[Any],
) -> None:
    """Check for one plane [N, H, W] per (height, width) of `sizes`, and N strictly increasing times in `pts`.

    Raises TypeError or ValueError, as `check_array` does.
    """
    check_array("pts", pts, (pts.size,), np.int64)
    late = np.flatnonzero(np.diff(pts) <= 0)
    if late.size:
        at = int(late[0])
        raise ValueError(
            f"pts must increase, but frame {at + 1} at {pts[at + 1]} follows frame {at} at {pts[at]}"
        )
    if len(planes) != len(sizes):
        raise ValueError(f"the layout has {len(sizes)} planes, not {len(planes)}")
    for number, (plane, size) in enumerate(zip(planes, sizes, strict=True)):
        check_array(f"plane {number}", plane, (pts.size, *size), dtype)
