"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._inputs import Array, array
from ._style import LINE, settle, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def confusion_matrix(counts: Array, *, classes: Sequence[str], title: str | None = None) -> Figure:
    r"""Counts by true class (row) and predicted class (column); the shade is the share of the row.

    Args:
        counts: (C, C) integers, as from `sslmed.metrics.confusion_matrix`.
        classes: C names.
        title: above the matrix.

    Returns:
        The figure, a third of a report page wide.

    Raises:
        TypeError: counts are no integers.
        ValueError: counts are not (C, C) or negative.

    Example:
        >>> figure = confusion_matrix([[8, 2], [1, 3]], classes=["benign", "malignant"], title="SimCLR")
        >>> figure.axes[0].texts[0].get_text()
        '8\n80 %'
    """
    from matplotlib.figure import Figure

    table, size = array(counts), len(classes)
    if not np.issubdtype(table.dtype, np.integer):
        raise TypeError(f"counts must be integers, got {table.dtype}")
    if table.shape != (size, size) or not size or table.min() < 0:
        raise ValueError(f"counts must be a ({size}, {size}) table of counts for {size} classes, got {table.shape}")
    totals = table.sum(1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros(table.shape), where=totals > 0)
    side = 0.62 * size
    longest = max(map(len, classes))
    figure = Figure(figsize=(side + 0.8 + 0.075 * longest, side + 0.95), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.6)  # never so dark that ink on it could not be read
    for (row, column), count in np.ndenumerate(table):
        label = f"{count}\n{100 * shares[row, column]:.0f} %" if totals[row, 0] else "0\n\N{EN DASH}"
        axes.text(
            column,
            row,
            label,
            ha="center",
            va="center",
            fontsize=8.5,
            linespacing=1.25,
            fontweight="bold" if row == column else "normal",
        )
    axes.set_xticks(range(size), list(classes))
    if longest > 8:
        for text in axes.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), list(classes))
    axes.set_xticks(np.arange(0.5, size - 1), minor=True)
    axes.set_yticks(np.arange(0.5, size - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set(visible=True, color=LINE)
    axes.set(xlabel="predicted", ylabel="true")
    if title is not None:
        axes.set_title(title, fontweight="bold", pad=8)
    settle(figure)
    return figure
