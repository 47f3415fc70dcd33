"""The largest of all distances from the points of one set to the nearest of another, both ways.

Most points have some of the other set so near that they cannot be the farthest. A coarse grid tells which: its cells
are so small that points in two cells, at most three apart, are nearer than a distance that some point is known to have.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _distance
from ._distance import Distances, Points, Sample, all_squares, cells_of, fits_float32, ns_of_dense, ns_of_grid, units

# Up to this estimated cost, in nanoseconds, computing all pairs is faster than leaving out points.
_SURELY_DENSE = 500_000
# Points whose distances are computed to know a large one, and how often: those that are left know a larger one.
_SAMPLE, _ROUNDS = 16, 3
_APART = 3  # cells
# With fewer pairs left, another round is not worth it.
_FEW_PAIRS = 4_000_000
_TOGETHER = 2**16  # points to compare the sample with at once
_CELLS_A_POINT = 8  # a finer grid costs more than it saves


def farthest(a: Points, b: Points, spacing: Distances | None) -> float:
    """Measure the largest of all distances of `nearest`, without the others where that is faster."""
    unit, sizes = units(spacing, a.shape[1])
    cells = cells_of(a, b)
    ns = ns_of_dense(a, b, sizes)
    if ns <= _SURELY_DENSE and ns <= ns_of_grid(a, b, sizes, cells):
        return max(_of_all_pairs(a, b, sizes, ways=(1, 0))) * unit
    found = 0.0
    for x, y in ((a, b), (b, a)):
        found = max(found, _one_way(x, y, sizes, cells, found))
    return found * unit


def _one_way(a: Points, b: Points, sizes: tuple[float, ...], cells: int, known: float) -> float:
    """The largest distance from `a` to `b`, or any smaller number where that is at most `known`."""
    left = candidates(a, b, sizes, known)
    if not len(left):
        return known
    together = max(1, _distance.MOST_PAIRS // (2 * len(b)))  # in float64 too
    parts = [left[k : k + together] for k in range(0, len(left), together)]
    if sum(ns_of_dense(part, b, sizes) for part in parts) <= _distance.ns_of_tree(len(left), len(b), len(sizes)):
        return max(_of_all_pairs(part, b, sizes, ways=(1,))[0] for part in parts)
    return float(_distance.one_way(left, b, Sample.of(left, b, sizes), sizes, cells).max())


def candidates(a: Points, b: Points, sizes: tuple[float, ...], known: float) -> Points:
    """Leave out points of `a` that are not the farthest from `b`.

    Args:
        a: (n, d) indices, n > 0.
        b: (m, d) indices, m > 0.
        sizes: of a pixel along each axis.
        known: points at most that far are left out too.

    Returns:
        (k, d) points of `a`; among them are all of the largest distance, if that is above `known`.
    """
    scale, dims = np.array(sizes), len(sizes)
    y, left = b * scale, a
    low = np.minimum(a.min(axis=0), b.min(axis=0)) * scale
    extent = np.maximum(a.max(axis=0), b.max(axis=0)) * scale - low
    for _ in range(_ROUNDS):
        some = left[:: -(-len(left) // _SAMPLE)] * scale
        squares = [all_squares(some, y[k : k + _TOGETHER], np.float64).min(axis=1) for k in range(0, len(y), _TOGETHER)]
        # The margins are for rounding: of the product, and of the cells.
        known = max(known, math.sqrt(max(np.min(squares, axis=0).max(), 0.0)) * (1 - 1e-6))
        side = known / ((_APART + 1) * math.sqrt(dims)) * (1 - 1e-6)
        if not side or np.prod(shape := extent // side + 1) > _CELLS_A_POINT * (len(left) + len(b)):
            break
        cells = _Cells(scale / side, low / side, tuple(shape.astype(int).tolist()))
        before = len(left)
        left = left[~cells.near(b)[cells.at(left)]]
        if 2 * len(left) > before or len(left) * len(b) < _FEW_PAIRS:
            break
    return left


class _Cells(NamedTuple):
    """A coarse grid: the point p is in the cell `p * scale - low`, rounded down."""

    scale: Distances
    low: Distances
    shape: tuple[int, ...]

    def at(self, points: Points) -> Points:
        """The cell of each point, in row-major order."""
        flat: Any = 0
        for column, scale, low, length in zip(points.T, self.scale, self.low, self.shape, strict=True):
            flat = flat * length + (column * scale - low).astype(np.int64).clip(max=length - 1)
        return np.asarray(flat)

    def near(self, points: Points) -> npt.NDArray[np.bool_]:
        """Of each cell, whether it is at most `_APART` cells along each axis from one with a point."""
        near = np.zeros(math.prod(self.shape), dtype=bool)
        near[self.at(points)] = True
        for axis in range(len(self.shape)):
            lines = near.reshape(-1, self.shape[axis], math.prod(self.shape[axis + 1 :]))
            found = lines.copy()
            for k in range(1, min(_APART + 1, self.shape[axis])):
                lines[:, k:] |= found[:, :-k]
                lines[:, :-k] |= found[:, k:]
        return near


def _of_all_pairs(a: Points, b: Points, sizes: tuple[float, ...], *, ways: tuple[int, ...]) -> list[float]:
    """The largest distances, of all pairs: from `a` to `b` for the way 1, from `b` to `a` for the way 0."""
    if fits_float32(a, b, sizes):
        squares = all_squares(a, b)
        return [math.sqrt(squares.min(axis=way).max()) for way in ways]
    x, y = a * np.array(sizes), b * np.array(sizes)
    squares = all_squares(x, y, np.float64)
    found = []
    for way in ways:  # the product rounds: it tells which point is the farthest, and the difference how far it is
        own, others = (x, y) if way == 1 else (y, x)
        gaps = others - own[squares.min(axis=way).argmax()]
        found.append(math.sqrt(np.einsum("nd,nd->n", gaps, gaps).min()))
    return found
