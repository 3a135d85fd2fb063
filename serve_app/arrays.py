"""Checks of arrays that look at shape and type alone, never at the samples: cheap enough for every value object."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def check_array(what: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raise TypeError for another type of samples, ValueError for another shape; both say what differs."""
    if array.dtype != dtype:
        raise TypeError(f"{what} must hold {np.dtype(dtype)}, not {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{what} must have the shape {shape}, not {array.shape}")


def check_frames(
    planes: tuple[npt.NDArray[Any], ...],
    sizes: tuple[tuple[int, int], ...],
    dtype: npt.DTypeLike,
    pts: npt.NDArray[Any],
) -> None:
    """One plane [N, H, W] for each (height, width) of `sizes`, and N times in `pts`, each later than the one before.

    Raises TypeError and ValueError, as `check_array` does.
    """
    check_array("pts", pts, (pts.size,), np.int64)
    late = np.flatnonzero(np.diff(pts) <= 0)
    if late.size:
        at = int(late[0])
        raise ValueError(
            f"pts must grow, but frame {at + 1} at {pts[at + 1]} follows frame {at} at {pts[at]}"
        )
    if len(planes) != len(sizes):
        raise ValueError(f"the layout has {len(sizes)} planes, not {len(planes)}")
    for number, (plane, size) in enumerate(zip(planes, sizes, strict=True)):
        check_array(f"plane {number}", plane, (pts.size, *size), dtype)
