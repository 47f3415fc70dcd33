"""Boundary points of masks, and the distances between two sets of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

# Beyond this many pairs a tree is faster than all distances at once, and its memory does not grow with the
# product.
_DENSE_PAIRS = 400_000
# Squared distances between points of a smaller box, and all terms of their sum, are integers that float32
# holds exactly.
_EXACT_SQUARE = 2**22


def boundary_points(mask: npt.NDArray[np.bool_]) -> Points:
    """Find the boundary of one mask.

    It is the pixels with a neighbour outside, across an edge (2-D) or a face (3-D): the mask minus its
    erosion by the cross-shaped structuring element. What lies outside the image is background.

    Args:
        mask: (*S) bool.

    Returns:
        (n, len(S)) indices in row-major order.
    """
    padded = np.zeros([n + 2 for n in mask.shape], dtype=bool)
    centre = (slice(1, -1),) * mask.ndim
    padded[centre] = mask
    inside = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = list(centre)
            window[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(window)]
    flat = np.flatnonzero(mask ^ inside)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1)


def nearest(a: Points, b: Points, spacing: Distances | None) -> tuple[Distances, Distances]:
    """Measure from each point of `a` to the nearest of `b`, and the other way round.

    Args:
        a: (n, d) indices, n > 0.
        b: (m, d) indices, m > 0.
        spacing: (d,) size of a pixel along each axis, or None for 1.

    Returns:
        Distances (n,) and (m,), Euclidean, in the unit of the spacing.
    """
    if spacing is None and len(a) * len(b) <= _DENSE_PAIRS:
        low = np.minimum(a.min(axis=0), b.min(axis=0))
        box = np.maximum(a.max(axis=0), b.max(axis=0)) - low
        if int((box**2).sum()) < _EXACT_SQUARE:
            return _nearest_dense(a - low, b - low)
    from scipy.spatial import cKDTree

    scale = np.ones(a.shape[1]) if spacing is None else spacing
    x, y = a * scale, b * scale
    to_b: Any = cKDTree(y).query(x)[0]
    to_a: Any = cKDTree(x).query(y)[0]
    return to_b, to_a


def _nearest_dense(a: Points, b: Points) -> tuple[Distances, Distances]:
    """All pairs at once: |a|^2 - 2 a.b + |b|^2 as one matrix product of integers in float32."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    ones_x, ones_y = np.ones((len(a), 1), np.float32), np.ones((len(b), 1), np.float32)
    left = np.concatenate([x, (x**2).sum(1, keepdims=True), ones_x], axis=1)
    right = np.concatenate([-2 * y, ones_y, (y**2).sum(1, keepdims=True)], axis=1)
    square = left @ right.T
    return np.sqrt(square.min(axis=1), dtype=np.float64), np.sqrt(square.min(axis=0), dtype=np.float64)
