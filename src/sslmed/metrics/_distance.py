"""Boundary points of masks, and the distances between two sets of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._grid import squares_within

Points = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

# At most this many pairs are computed all at once; they take 8 MB in float32.
_DENSE_PAIRS = 2_000_000
# Up to this estimated cost, in nanoseconds, computing all pairs is the fastest way to the farthest point.
_SURELY_DENSE = 1_000_000
# Squared lengths of points below it, and all terms of their squared distances, are integers that float32 holds exactly.
_EXACT_SQUARE = 2**22

# How far to look on the grid, in pixels, one reach after the other, by the number of axes. The squares of 9 still fit
# into bytes, those of 126 into 16 bits.
_REACHES = {2: (30, 126), 3: (9, 18, 36)}
# Estimated costs in nanoseconds on one core, measured on masks of 64 to 1024 pixels a side and on volumes. Only their
# ratios matter.
_NS_A_PAIR = 1.0  # computing all distances in float32; twice as long in float64
_NS_A_SCAN = 1.0  # the search with early exit, for each pair it is expected to visit
_NS_A_SHUFFLE = 50.0  # the same search, for each point
_NS_A_TREE_POINT = 150.0  # building the tree, for each point
_NS_A_QUERY = {2: 1000.0, 3: 2500.0}  # a query of the tree, by the number of axes
_NS_A_REACH = 150_000.0  # a search on the grid, fixed cost
_NS_A_PIXEL = 2.5  # the grid's table, its first axis
_NS_A_STEP = 0.7  # its second axis, for each pixel and step; floating point takes four times as long
_NS_A_WALK = 15.0  # the walk, for each point and step
# Points, and points to compare them with, from which the costs are estimated.
_SAMPLE, _OTHERS = 16, 8192


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
    points = np.empty((mask.ndim, len(flat)), dtype=np.int64)
    for axis in range(mask.ndim - 1, -1, -1):  # as numpy.unravel_index, which divides more slowly
        rest = flat // padded.shape[axis]
        np.subtract(flat, rest * padded.shape[axis] + 1, out=points[axis])
        flat = rest
    return points.T


def nearest(a: Points, b: Points, spacing: Distances | None) -> tuple[Distances, Distances]:
    """Measure from each point of `a` to the nearest of `b`, and the other way round.

    Args:
        a: (n, d) indices, n > 0, d of 2 or 3.
        b: (m, d) indices, m > 0.
        spacing: (d,) size of a pixel along each axis, or None for 1.

    Returns:
        Distances (n,) and (m,), Euclidean, in the unit of the spacing.
    """
    unit, sizes = _units(spacing, a.shape[1])
    cells = _cells(a, b)
    if _ns_of_dense(a, b, sizes) <= _ns_of_grid(a, b, sizes, cells):
        to_b, to_a = _nearest_dense(a, b, sizes)
        return np.sqrt(to_b, dtype=np.float64) * unit, np.sqrt(to_a, dtype=np.float64) * unit
    there, back = (_one_way(x, y, _Sample.of(x, y, sizes), sizes, cells) for x, y in ((a, b), (b, a)))
    return there * unit, back * unit


def farthest(a: Points, b: Points, spacing: Distances | None) -> float:
    """Measure the largest of all distances of `nearest`, without the others where that is faster."""
    unit, sizes = _units(spacing, a.shape[1])
    cells = _cells(a, b)
    ns = _ns_of_dense(a, b, sizes)
    dense = ns <= _ns_of_grid(a, b, sizes, cells)
    if not dense or ns > _SURELY_DENSE:
        ways = [(x, y, _Sample.of(x, y, sizes)) for x, y in ((a, b), (b, a))]
        if not dense:
            return max(_farthest_one_way(*way, sizes, cells) for way in ways) * unit
        if sum(sample.ns_of_scans(len(x), len(y)) for x, y, sample in ways) < ns:
            return max(_scan(x, y, sizes) for x, y, _ in ways) * unit
    return _farthest_dense(a, b, sizes) * unit


def _cells(a: Points, b: Points) -> int:
    low, high = np.minimum(a.min(axis=0), b.min(axis=0)), np.maximum(a.max(axis=0), b.max(axis=0))
    return int(np.prod(high - low + 1, dtype=np.float64))


def _units(spacing: Distances | None, dims: int) -> tuple[float, tuple[float, ...]]:
    """Split the spacing into a unit, and sizes that are about 1: exactly 1 where all axes have the same."""
    if spacing is None:
        return 1.0, (1.0,) * dims
    unit = float(spacing[0] if (spacing == spacing[0]).all() else np.exp(np.log(spacing).mean()))
    return unit, tuple((spacing / unit).tolist())


def _fits_float32(a: Points, b: Points, sizes: tuple[float, ...]) -> bool:
    """Whether all squared distances are whole numbers that float32 holds."""
    dims = a.shape[1]
    return sizes == (1.0,) * dims and bool(int(max(a.max(), b.max())) ** 2 * dims < _EXACT_SQUARE)


def _ns_of_dense(a: Points, b: Points, sizes: tuple[float, ...]) -> float:
    """Estimated cost of all pairs; infinite where they take too much memory."""
    times = 1 if _fits_float32(a, b, sizes) else 2  # as many bytes
    pairs = len(a) * len(b) * times
    return pairs * _NS_A_PAIR if pairs <= _DENSE_PAIRS else math.inf


def _ns_of_grid(a: Points, b: Points, sizes: tuple[float, ...], cells: int) -> float:
    """Estimated cost of the searches on the grid, both ways, up to the first reach."""
    reach = _REACHES[a.shape[1]][0]
    return 2 * _ns_of_table(cells, sizes, reach) + (len(a) + len(b)) * reach * _NS_A_WALK


def _ns_of_table(cells: int, sizes: tuple[float, ...], reach: int) -> float:
    steps = (len(sizes) - 2) * reach * (1 if sizes == (1.0,) * len(sizes) else 4)
    return _NS_A_REACH + cells * (_NS_A_PIXEL + _NS_A_STEP * steps)


@dataclass(frozen=True)
class _Sample:
    """Rough distances from a few points to the nearest of another set, to estimate the cost of each algorithm.

    Attributes:
        distances: (k,), upper bounds.
        scans: mean number of points to visit until one is as near as the farthest of the sample.
    """

    distances: Distances
    scans: float

    @classmethod
    def of(cls, a: Points, b: Points, sizes: tuple[float, ...]) -> _Sample:
        some, others = (points[:: -(-len(points) // most)] for points, most in ((a, _SAMPLE), (b, _OTHERS)))
        squares = _all_squares(some * np.array(sizes), others * np.array(sizes))
        shortest = squares.min(axis=1)
        share = (squares <= shortest.max()).mean(axis=1)
        return cls(np.sqrt(shortest.clip(0), dtype=np.float64), float((1 / share).mean()))

    def ns_of_scans(self, points: int, others: int) -> float:
        return points * self.scans * _NS_A_SCAN + (points + others) * _NS_A_SHUFFLE

    def nearby(self, reach: int) -> tuple[float, float]:
        """Share of points with a neighbour within reach, and the mean steps to it; 1 and `reach` without a sample."""
        if not len(self.distances):
            return 1.0, float(reach)
        return float((self.distances <= reach).mean()), float(self.distances.clip(max=reach).mean())

    def beyond(self, reach: int) -> _Sample:
        return _Sample(self.distances[self.distances > reach], self.scans)


def _farthest_one_way(a: Points, b: Points, sample: _Sample, sizes: tuple[float, ...], cells: int) -> float:
    """The largest distance from `a` to `b`: by the search with early exit where its estimated cost is lower."""
    reach, asking = _REACHES[len(sizes)][0], len(a) * _NS_A_QUERY[len(sizes)]
    share, steps = sample.nearby(reach)
    on_grid = _ns_of_table(cells, sizes, reach) + len(a) * steps * _NS_A_WALK + (1 - share) * asking
    if sample.ns_of_scans(len(a), len(b)) < min(on_grid, asking + len(b) * _NS_A_TREE_POINT):
        return _scan(a, b, sizes)
    return float(_one_way(a, b, sample, sizes, cells).max())


def _scan(a: Points, b: Points, sizes: tuple[float, ...]) -> float:
    """The largest distance from `a` to `b`, by a search that leaves a point once it is near enough to some of `b`."""
    from scipy.spatial.distance import directed_hausdorff

    return float(directed_hausdorff(a * np.array(sizes), b * np.array(sizes))[0])


def _one_way(a: Points, b: Points, sample: _Sample, sizes: tuple[float, ...], cells: int) -> Distances:
    """Search the grid in growing reaches while that costs less than the tree queries it saves; then the tree."""
    dims = a.shape[1]
    distances, left = np.empty(len(a)), np.arange(len(a))
    for reach in _REACHES[dims]:
        share, steps = sample.nearby(reach)
        spared = share * len(left) * _NS_A_QUERY[dims] + (share == 1) * len(b) * _NS_A_TREE_POINT
        if _ns_of_table(cells, sizes, reach) + len(left) * steps * _NS_A_WALK > spared:
            break
        squares, beyond = squares_within(a, b, sizes, reach)
        distances[left] = np.sqrt(squares, dtype=np.float64)
        left, a, sample = left[beyond], a.T.take(beyond, axis=1).T, sample.beyond(reach)
        if not len(left):
            return distances
    from scipy.spatial import cKDTree

    # Boundaries are spread evenly: a balanced tree takes longer to build than it saves.
    tree: Any = cKDTree(b * np.array(sizes), balanced_tree=False, compact_nodes=False, leafsize=32)
    distances[left] = tree.query(a * np.array(sizes))[0]
    return distances


def _nearest_dense(a: Points, b: Points, sizes: tuple[float, ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Square the distance from each point of both to the nearest of the other, of all pairs."""
    if _fits_float32(a, b, sizes):
        squares = _all_squares(a, b)
        return squares.min(axis=1), squares.min(axis=0)
    x, y = a * np.array(sizes), b * np.array(sizes)
    squares = _all_squares(x, y, np.float64)
    # The product rounds: it tells which point is the nearest, and the difference how near it is.
    both = (x - y[squares.argmin(axis=1)], y - x[squares.argmin(axis=0)])
    to_b, to_a = (np.einsum("nd,nd->n", gap, gap) for gap in both)
    return to_b, to_a


def _farthest_dense(a: Points, b: Points, sizes: tuple[float, ...]) -> float:
    """The largest distance from a point of either to the nearest of the other, of all pairs."""
    if _fits_float32(a, b, sizes):
        return math.sqrt(max(square.max() for square in _nearest_dense(a, b, sizes)))
    x, y = a * np.array(sizes), b * np.array(sizes)
    squares = _all_squares(x, y, np.float64)
    far, back = squares.min(axis=1).argmax(), squares.min(axis=0).argmax()
    gaps = (y - x[far], x - y[back])  # exact, unlike the product
    return math.sqrt(max(np.einsum("nd,nd->n", gap, gap).min() for gap in gaps))


def _all_squares(
    a: Points | Distances, b: Points | Distances, dtype: type[np.floating[Any]] = np.float32
) -> npt.NDArray[Any]:
    """Squared distances of all pairs at once: |a|^2 - 2 a.b + |b|^2 as one matrix product."""
    dims = a.shape[1]
    left, right = np.ones((len(a), dims + 2), dtype), np.ones((dims + 2, len(b)), dtype)
    x, y = left[:, :dims], right[:dims]
    x[:], y[:] = a, b.T
    np.einsum("nd,nd->n", x, x, out=left[:, dims])
    np.einsum("dm,dm->m", y, y, out=right[-1])
    y *= -2
    return left @ right
