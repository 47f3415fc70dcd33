"""Boundary points of masks, and the distances between two sets of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

# Up to this many pairs all distances at once are the fastest, and take 8 MB; beyond it a tree, whose memory does not
# grow with the product.
_DENSE_PAIRS = 2_000_000
# Up to this many pairs the search for the one farthest point that gives up on a point early is faster than a tree.
_EARLY_PAIRS = 30_000_000
# Squared lengths of points below it, and all terms of their squared distances, are integers that float32 holds exactly.
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
    padded[(slice(1, -1),) * mask.ndim] = mask
    # In one row, the neighbours along an axis are a fixed step away; one from the next line or slice is padding.
    row, first = padded.ravel(), math.prod(padded.shape[1:])
    end = len(row) - first
    inside = row[: end - first] & row[2 * first :]
    for axis in range(1, mask.ndim):
        step = math.prod(padded.shape[axis + 1 :])
        inside &= row[first - step : end - step]
        inside &= row[first + step : end + step]
    flat = np.flatnonzero(row[first:end] > inside) + first
    return np.stack(np.unravel_index(flat, padded.shape), axis=1) - 1


def nearest(a: Points, b: Points, spacing: Distances | None) -> tuple[Distances, Distances]:
    """Measure from each point of `a` to the nearest of `b`, and the other way round.

    Args:
        a: (n, d) indices, n > 0.
        b: (m, d) indices, m > 0.
        spacing: (d,) size of a pixel along each axis, or None for 1.

    Returns:
        Distances (n,) and (m,), Euclidean, in the unit of the spacing.
    """
    if _dense_is_exact(a, b, spacing):
        unit = 1.0 if spacing is None else float(spacing[0])
        to_b, to_a = _nearest_dense(a, b)
        return np.sqrt(to_b, dtype=np.float64) * unit, np.sqrt(to_a, dtype=np.float64) * unit
    from scipy.spatial import cKDTree

    x, y = _scaled(a, spacing), _scaled(b, spacing)
    # Boundaries are spread evenly: a balanced tree takes longer to build than it saves.
    trees: Any = [cKDTree(points, balanced_tree=False, compact_nodes=False, leafsize=32) for points in (x, y)]
    return trees[1].query(x)[0], trees[0].query(y)[0]


def farthest(a: Points, b: Points, spacing: Distances | None) -> float:
    """Measure the largest of all distances of `nearest`, without the others where that is faster."""
    if _dense_is_exact(a, b, spacing):
        unit = 1.0 if spacing is None else float(spacing[0])
        return math.sqrt(max(square.max() for square in _nearest_dense(a, b))) * unit
    if len(a) * len(b) > _EARLY_PAIRS:
        return float(max(distances.max() for distances in nearest(a, b, spacing)))
    from scipy.spatial.distance import directed_hausdorff

    x, y = _scaled(a, spacing), _scaled(b, spacing)
    return float(max(directed_hausdorff(x, y)[0], directed_hausdorff(y, x)[0]))


def _dense_is_exact(a: Points, b: Points, spacing: Distances | None) -> bool:
    """Whether all pairs fit, and their squared distances are whole numbers, up to one factor, that float32 holds."""
    if len(a) * len(b) > _DENSE_PAIRS or not (spacing is None or (spacing == spacing[0]).all()):
        return False
    return bool(int(max(a.max(), b.max())) ** 2 * a.shape[1] < _EXACT_SQUARE)


def _scaled(points: Points, spacing: Distances | None) -> Distances:
    return points.astype(np.float64) if spacing is None else points * spacing


def _nearest_dense(a: Points, b: Points) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Squared distances of all pairs at once: |a|^2 - 2 a.b + |b|^2 as one matrix product of integers in float32."""
    dims = a.shape[1]
    left, right = np.ones((len(a), dims + 2), np.float32), np.ones((dims + 2, len(b)), np.float32)
    x, y = left[:, :dims], right[:dims]
    x[:], y[:] = a, b.T
    np.einsum("nd,nd->n", x, x, out=left[:, dims])
    np.einsum("dm,dm->m", y, y, out=right[-1])
    y *= -2
    square = left @ right
    return square.min(axis=1), square.min(axis=0)
