"""Curves of many methods, a small panel for each: where losses of different kinds would not share a scale."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._inputs import Array, array
from ._style import CYCLE, settle, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def curve_panels(
    panels: Mapping[str, Mapping[str, tuple[Array, Array]]],
    *,
    xlabel: str = "epoch",
    ylabel: str = "loss",
    sharey: bool = False,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """A row of small panels, one for each method, with a line for each of its runs.

    Args:
        panels: method -> run -> (x, y), two sequences of one length; NaN leaves a gap.
        xlabel: of the horizontal axes.
        ylabel: of the vertical axes.
        sharey: one vertical range for all panels, where their values can be compared.
        ylim: that range; by default that of the values.

    Returns:
        The figure, at most four panels and a report page wide.

    Raises:
        ValueError: no panel, a panel without a run, or x and y that are not two sequences of one length.

    Example:
        >>> runs = {"seed 0": ([0, 1], [1.0, 0.4]), "seed 1": ([0, 1], [1.1, 0.5])}
        >>> figure = curve_panels({"SimCLR": runs, "BYOL": runs})
        >>> [axes.get_title() for axes in figure.axes]
        ['SimCLR', 'BYOL']
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not panels or not all(panels.values()):
        raise ValueError("panels must hold at least one panel, and each at least one run, got an empty one")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.35 + 2.3 * columns, 0.3 + 1.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=False, sharey=sharey, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (method, runs) in zip(grid.flat, panels.items(), strict=False):
        for k, (name, (x, y)) in enumerate(runs.items()):
            xs, ys = array(x), array(y)
            if xs.ndim != 1 or xs.shape != ys.shape or not len(xs):
                raise ValueError(
                    f"panels[{method!r}][{name!r}] must be two sequences of one length, got {xs.shape} and {ys.shape}"
                )
            axes.plot(
                xs,
                ys,
                color=CYCLE[k % len(CYCLE)],
                linewidth=1.3,
                alpha=0.9,
                marker="o" if len(xs) <= 12 else None,
                markersize=2.4,
            )
        axes.set_title("\n".join(textwrap.wrap(method, 30)), fontweight="bold", fontsize=8.5)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        if ylim is not None:
            axes.set_ylim(*ylim)
    figure.supxlabel(xlabel, fontsize=9)
    figure.supylabel(ylabel, fontsize=9)
    settle(figure)
    return figure
