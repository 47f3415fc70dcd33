"""Nearest distances between many points of a grid: a table along all axes but the last, then a walk along that one.

The table holds, for each pixel, the squared distance to the nearest point in its own column (an image), or in its own
plane across the last axis (a volume). From each point the walk looks k pixels to either side, adds the square of k to
what the table holds there, and ends where that square alone is above the best so far. Outlines in many pieces have
others within a few pixels nearly everywhere, so that most walks are short.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.int64]
Squares = npt.NDArray[Any]

# Entries for one NumPy operation: enough to spread its fixed cost, and few enough for the cache.
_AT_ONCE = 2**14


def squares_within(a: Points, b: Points, spacing: tuple[float, ...], reach: float) -> tuple[Squares, Points]:
    """Square the distance from each point of `a` to the nearest of `b`, where there is one within reach.

    Args:
        a: (n, d) indices, n > 0, d > 1.
        b: (m, d) indices, m > 0.
        spacing: size of a pixel along each axis.
        reach: up to which distance to look, in the unit of the spacing.

    Returns:
        (n,) squares, whole numbers where the spacing is 1; and the positions (k,), ascending, of the points without a
        point of `b` within reach, whose squares are not valid.
    """
    low = np.minimum(a.min(axis=0), b.min(axis=0))
    shape = np.maximum(a.max(axis=0), b.max(axis=0)) - low + 1
    # One step more than fits, so that rounding of the spacing cannot leave out a pixel within reach.
    needed = [int(reach / size) + 1 for size in spacing]
    steps = [min(n, int(length) - 1) for n, length in zip(needed, shape, strict=True)]
    margin = steps[-1]  # a step past the end of a line lands in the margin before the next line, which is empty
    padded = (*shape[:-1].tolist(), int(shape[-1]) + margin)
    strides = [math.prod(padded[axis + 1 :]) for axis in range(len(padded))]
    start = margin - sum(int(first) * stride for first, stride in zip(low, strides, strict=True))
    of_a, of_b = (
        sum((column * stride for column, stride in zip(points.T, strides, strict=True)), start) for points in (a, b)
    )

    nowhere = needed[0] + 1
    gaps = np.full(math.prod(padded) + 2 * margin, nowhere, np.min_scalar_type(2 * nowhere))
    gaps[of_b] = 0
    gaps = _along_the_first(gaps, strides[0], steps[0], nowhere)
    whole = all(size == 1 for size in spacing)
    table = gaps.astype(np.min_scalar_type(2 * nowhere**2) if whole else np.float64)
    if not whole:
        table *= spacing[0]
    table *= table
    lines = table[margin : len(table) - margin].reshape(padded)
    for axis in range(1, len(shape) - 1):
        _along_a_middle_axis(lines, axis, steps[axis], spacing[axis], (nowhere * spacing[0]) ** 2)
    return _walk(table, of_a, steps[-1], spacing[-1], reach**2)


def _along_the_first(gaps: npt.NDArray[Any], stride: int, steps: int, nowhere: int) -> npt.NDArray[Any]:
    """Count pixels along the first axis to the nearest 0, up to `steps`; counts add up, so their strides may double."""
    margin = (steps + 1) // 2 * stride
    wide = np.full(len(gaps) + 2 * margin, nowhere, gaps.dtype)
    inner = wide[margin : margin + len(gaps)]
    inner[:] = gaps
    done = 0
    while done < steps:
        step = min(done + 1, steps - done)
        before, after = (wide[margin + way : margin + way + len(gaps)] for way in (-step * stride, step * stride))
        np.minimum(before, after, out=gaps)
        gaps += gaps.dtype.type(step)
        np.minimum(inner, gaps, out=inner)
        done += step
    return inner


def _along_a_middle_axis(table: Squares, axis: int, steps: int, size: float, nowhere: float) -> None:
    """Extend the squared distances, in place, along an axis between the first and the last, up to `steps` pixels."""
    lines = np.moveaxis(table, axis, 1)
    length = lines.shape[1]
    together = max(1, 2 * _AT_ONCE // math.prod(table.shape[1:]))
    for first in range(0, len(lines), together):
        result = lines[first : first + together]
        wide = np.full((len(result), length + 2 * steps, *result.shape[2:]), nowhere, table.dtype)
        wide[:, steps : steps + length] = result
        found = np.empty_like(result)
        for k in range(1, steps + 1):
            np.minimum(wide[:, steps - k :][:, :length], wide[:, steps + k :][:, :length], out=found)
            found += table.dtype.type((k * size) ** 2)
            np.minimum(result, found, out=result)


def _walk(table: Squares, at: Points, steps: int, size: float, limit: float) -> tuple[Squares, Points]:
    """Extend the squares at some places along the last axis; also return which of them stay above the limit."""
    ways = np.arange(1, steps + 1).repeat(2)
    ways[1::2] *= -1
    lengths = ((ways * size) ** 2).astype(table.dtype)
    squares = table.take(at)
    best, left = squares, np.arange(len(at))
    done = 0
    while True:
        # A further step cannot improve a square that is at most the square of the step itself.
        on = np.flatnonzero(best > (min(((done + 1) * size) ** 2, limit) if done < steps else limit))
        if len(on) < len(left):
            squares[left] = best
            left, at, best = left[on], at[on], best[on]
        if done == steps or not len(left):
            squares[left] = best
            return squares, left
        # Dropping finished points costs as much as a few steps, so it is done each time the steps have doubled.
        end = min(steps, 2 * done + 1)
        together = max(2, _AT_ONCE // len(left))
        for first in range(2 * done, 2 * end, together):
            block = slice(first, min(first + together, 2 * end))
            found = table.take(at + ways[block, None])
            found += lengths[block, None]
            best = np.minimum(best, found.min(axis=0))
        done = end
