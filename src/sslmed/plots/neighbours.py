"""Images and those that an encoder finds most like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._inputs import Array, array, gray
from ._panels import panels
from ._style import styled
from .galleries import _show, _titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def neighbour_gallery(queries: Array, neighbours: Array, *, titles: Sequence[str] | None = None) -> Figure:
    """One row for each query: the image, and its nearest neighbours in feature space, the nearest first.

    Args:
        queries: (N, H, W), about [0, 1]; the display saturates.
        neighbours: (N, K, H, W), about [0, 1].
        titles: N texts beside the rows.

    Returns:
        The figure.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths.

    Example:
        >>> import numpy as np
        >>> len(neighbour_gallery(np.zeros((2, 8, 8)), np.zeros((2, 3, 8, 8))).axes)
        8
    """
    left, right = array(queries), array(neighbours)
    if left.ndim != 3 or right.ndim != 4 or len(left) != len(right) or not right.size:
        raise ValueError(
            f"queries and neighbours must have shapes (N, H, W) and (N, K, H, W), got {left.shape} and {right.shape}"
        )
    _titled(titles, len(left))
    heads = ["image", "nearest", *[f"{k}." for k in range(2, right.shape[1] + 1)]]
    figure, grid = panels([left.shape[1] / left.shape[2]] * len(left), heads, titles, width=1.25)
    for axes, query, near in zip(grid, left, right, strict=True):
        for panel, picture in zip(axes, (query, *near), strict=True):
            _show(panel, gray("neighbours", picture))
    return figure
