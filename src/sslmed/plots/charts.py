"""Numbers as pictures: curves of several runs, and every test case of every method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ._inputs import Array, array
from ._style import CYCLE, DASHES, INK, settle, styled

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


@styled
def curves(
    runs: Mapping[str, tuple[Array, Array]],
    *,
    xlabel: str = "epoch",
    ylabel: str = "loss",
    groups: Mapping[str, str] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Lines of several runs in one picture.

    Args:
        runs: name -> (x, y), two sequences of one length; NaN leaves a gap.
        xlabel: of the horizontal axis.
        ylabel: of the vertical axis.
        groups: run name -> the legend's text; runs of one group (the seeds of a method) share line and entry.
        ylim: range of the vertical axis; by default that of the values.

    Returns:
        The figure, a third of a report page wide. Colour and dash both tell the groups apart.

    Raises:
        ValueError: no run, or x and y that are not two sequences of one length.

    Example:
        >>> figure = curves({"seed 0": ([0, 1], [1.0, 0.4]), "seed 1": ([0, 1], [1.1, 0.5])})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['seed 0', 'seed 1']
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not runs:
        raise ValueError("runs must hold at least one curve, got none")
    labels = {name: (groups or {}).get(name, name) for name in runs}
    order = list(dict.fromkeys(labels.values()))
    columns = 2 if max(map(len, order)) <= 22 and len(order) > 1 else 1
    height = 2.5 + 0.19 * -(-len(order) // columns)
    figure = Figure(figsize=(4.4, height), layout="constrained")
    axes = figure.add_subplot()
    handles: dict[str, Artist] = {}
    for name, (x, y) in runs.items():
        xs, ys = array(x), array(y)
        if xs.ndim != 1 or xs.shape != ys.shape or not len(xs):
            raise ValueError(f"runs[{name!r}] must be two sequences of one length, got {xs.shape} and {ys.shape}")
        k = order.index(labels[name])
        (line,) = axes.plot(
            xs,
            ys,
            color=CYCLE[k % len(CYCLE)],
            linestyle=DASHES[k % len(DASHES)],
            linewidth=1.5,
            marker="o" if len(xs) <= 25 else None,
            markersize=2.8,
        )
        handles.setdefault(labels[name], line)
    axes.grid(axis="y")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if ylim is not None:
        axes.set_ylim(*ylim)
    figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=columns, handlelength=2.6)
    settle(figure)
    return figure


@styled
def metric_strip(
    values: Mapping[str, Array],
    *,
    xlabel: str,
    xlim: tuple[float, float] | None = None,
) -> Figure:
    r"""Every case as a dot, one row for each method, with the median (bar) and the interquartile range (box).

    Args:
        values: method -> (N,) numbers, one for each case. NaN and infinite values cannot be drawn and are not
            in the quartiles; their count stands beside the method.
        xlabel: name of the metric and its unit.
        xlim: range of the axis; by default that of the values.

    Returns:
        The figure, half a report page wide.

    Raises:
        ValueError: no method, or values that are not one sequence of at least one number.

    Example:
        >>> figure = metric_strip({"supervised": [0.4, 0.8, 0.9]}, xlabel="Dice")
        >>> figure.axes[0].get_yticklabels()[0].get_text()
        'supervised\nn = 3'
    """
    from matplotlib.figure import Figure

    if not values:
        raise ValueError("values must hold at least one method, got none")
    figure = Figure(figsize=(5.2, 0.75 + 0.52 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    names = []
    for row, (name, numbers) in enumerate(values.items()):
        cases = array(numbers).astype(np.float64)
        if cases.ndim != 1 or not len(cases):
            raise ValueError(f"values[{name!r}] must have shape (N,) with N >= 1, got {cases.shape}")
        finite = cases[np.isfinite(cases)]
        left_out = len(cases) - len(finite)
        names.append(f"{name}\nn = {len(cases)}" + (f", {left_out} not finite" if left_out else ""))
        if not len(finite):
            continue
        # The golden ratio spreads equal values evenly and, unlike random jitter, the same way each time.
        offset = (np.arange(len(finite)) * 0.6180339887 % 1 - 0.5) * 0.62
        axes.scatter(finite, row + offset, s=11, color=CYCLE[0], alpha=0.55, linewidths=0, clip_on=False, zorder=2)
        low, median, high = np.quantile(finite, [0.25, 0.5, 0.75])
        axes.broken_barh(
            [(low, high - low)], (row - 0.36, 0.72), facecolor="none", edgecolor=INK, linewidth=1.0, zorder=3
        )
        axes.plot([median, median], [row - 0.36, row + 0.36], color=INK, linewidth=2.6, zorder=4)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel(xlabel)
    if xlim is not None:
        axes.set_xlim(*xlim)
    settle(figure)
    return figure
