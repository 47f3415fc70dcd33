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
    under: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """An empty grid of image panels at exact places, in inches.

    Args:
        aspects: height / width of each row's image.
        heads: one heading for each column; long ones are wrapped.
        titles: one text for each row, set to its left, or None.
        width: of a panel.
        foot: height of the strip left free under the last row.
        under: height left free under each panel.

    Returns:
        The figure, and its axes as rows of columns.
    """
    from matplotlib.figure import Figure

    gap, left = 0.06, 1.55 if titles is not None else 0.02
    lines_of_heads = [textwrap.wrap(text, max(8, int(width * 12))) or [""] for text in heads]
    head = 0.12 + 0.15 * max(len(lines) for lines in lines_of_heads)
    total_w = left + len(heads) * (width + gap)
    total_h = head + sum(width * aspect + under + gap for aspect in aspects) + foot
    figure = Figure(figsize=(total_w, total_h))
    rows, top = [], total_h - head
    for r, aspect in enumerate(aspects):
        height = width * aspect
        row = []
        for c, lines in enumerate(lines_of_heads):
            x = left + c * (width + gap)
            axes = figure.add_axes((x / total_w, (top - height) / total_h, width / total_w, height / total_h))
            axes.set_axis_off()
            if r == 0:
                place = ((x + width / 2) / total_w, (top + 0.08) / total_h)
                figure.text(*place, "\n".join(lines), ha="center", va="bottom")
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
        top -= height + under + gap
    return figure, rows
