"""Rows of image panels at exact places: image galleries need no layout engine."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(
    aspects: Sequence[float],
    heads: Sequence[str],
    titles: Sequence[str] | None,
    *,
    width: float,
    foot: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """An empty grid of image panels at exact places, in inches.

    Args:
        aspects: height / width of each row's image.
        heads: one heading for each column.
        titles: one text for each row, set to its left, or None.
        width: of a panel.
        foot: height of the strip left free under the last row.

    Returns:
        The figure, and its axes as rows of columns.
    """
    from matplotlib.figure import Figure

    gap, head, left = 0.06, 0.27, 1.55 if titles is not None else 0.02
    total_w = left + len(heads) * (width + gap)
    total_h = head + sum(width * aspect + gap for aspect in aspects) + foot
    figure = Figure(figsize=(total_w, total_h))
    rows, top = [], total_h - head
    for r, aspect in enumerate(aspects):
        height = width * aspect
        row = []
        for c, text in enumerate(heads):
            x = left + c * (width + gap)
            axes = figure.add_axes((x / total_w, (top - height) / total_h, width / total_w, height / total_h))
            axes.set_axis_off()
            if r == 0:
                figure.text((x + width / 2) / total_w, (top + 0.08) / total_h, text, ha="center", va="bottom")
            row.append(axes)
        if titles is not None:
            lines = [line for part in titles[r].split("\n") for line in textwrap.wrap(part, 19) or [""]]
            figure.text(
                (left - 0.1) / total_w,
                (top - height / 2) / total_h,
                "\n".join(lines),
                ha="right",
                va="center",
            )
        rows.append(row)
        top -= height + gap
    return figure, rows
