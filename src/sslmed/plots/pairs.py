"""The two views of an image that a contrastive method pulls together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._inputs import Array, array, gray, same_length
from ._panels import panels
from ._style import styled
from .galleries import _show, _titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def view_gallery(
    images: Array,
    view0: Array,
    view1: Array,
    *,
    heads: tuple[str, str, str] = ("original", "view 0", "view 1"),
    titles: Sequence[str] | None = None,
) -> Figure:
    """One row for each image: the original and two views of it; views may differ from it in size.

    Args:
        images: (N, H, W) or (N, 1, H, W), about [0, 1]; the display saturates.
        view0: (N, h, w) or (N, 1, h, w), about [0, 1].
        view1: as view0.
        heads: the three column headings.
        titles: N texts beside the rows.

    Returns:
        The figure; every picture fills a square cell's width, and a row is as high as its highest picture.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths.

    Example:
        >>> import numpy as np
        >>> len(view_gallery(np.zeros((2, 12, 16)), np.zeros((2, 8, 8)), np.zeros((2, 8, 8))).axes)
        6
    """
    sides = [list(array(x)) for x in (images, view0, view1)]
    count = same_length(images=sides[0], view0=sides[1], view1=sides[2])
    _titled(titles, count)
    if len(heads) != 3:
        raise ValueError(f"heads must have 3 entries, one for each column, got {len(heads)}")
    rows = [
        [gray(name, x) for name, x in zip(("images", "view0", "view1"), row, strict=True)]
        for row in zip(*sides, strict=True)
    ]
    aspects = [max(picture.shape[0] / picture.shape[1] for picture in row) for row in rows]
    figure, grid = panels(aspects, heads, titles, width=2.05)
    for axes, row in zip(grid, rows, strict=True):
        for panel, picture in zip(axes, row, strict=True):
            _show(panel, picture)
    return figure
