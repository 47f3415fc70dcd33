"""What an amount of labels buys: a metric against the labels, a line for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._inputs import Array, array
from ._style import CYCLE, DASHES, MUTED, settle, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*"


@styled
def label_curves(
    lines: Mapping[str, tuple[Array, Array, Array | None]],
    *,
    xlabel: str,
    ylabel: str,
    log2: bool = False,
    names: Sequence[str] | None = None,
    level: tuple[str, float] | None = None,
) -> Figure:
    """A metric against the amount of labels, with error bars.

    Args:
        lines: method -> (amounts (N,), means (N,), half lengths of the error bars (N,) or None), the bars
            usually the SD over seeds; NaN leaves out a bar or a point. Methods may have different amounts.
        xlabel: the amount and its unit.
        ylabel: name of the metric and its unit.
        log2: place 1, 2, 4, 8, ... at equal distances.
        names: tick labels that replace the amounts, in their order, for example the names of test sets.
        level: name and height of a dotted line across the figure, for example of training with all labels.

    Returns:
        The figure, half a report page wide. Methods are moved sideways by a hair, so that their bars do not cover each
        other; colour, dash and marker all tell them apart.

    Raises:
        ValueError: no method, sequences of different lengths or none, an amount below or at 0 with `log2`, or another
            number of `names` than of amounts.

    Example:
        >>> lines = {"supervised": ([1, 2, 4], [0.3, 0.5, 0.7], [0.1, 0.05, 0.02])}
        >>> figure = label_curves(lines, xlabel="labelled volumes", ylabel="Dice", log2=True)
        >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        ['1', '2', '4']
    """
    from matplotlib.figure import Figure

    if not lines:
        raise ValueError("lines must hold at least one method, got none")
    points = {name: [None if part is None else array(part) for part in parts] for name, parts in lines.items()}
    for name, (xs, ys, bars) in points.items():
        shapes = [part.shape for part in (xs, ys, bars) if part is not None]
        if xs is None or ys is None or xs.ndim != 1 or not len(xs) or len(set(shapes)) > 1:
            raise ValueError(f"lines[{name!r}] must be sequences of one length of at least 1, got shapes {shapes}")
        if log2 and xs.min() <= 0:
            raise ValueError(f"lines[{name!r}] must have amounts above 0 with log2, got {xs.min():g}")
    amounts = np.unique(np.concatenate([xs for xs, *_ in points.values()]).astype(np.float64))
    if names is not None and len(names) != len(amounts):
        raise ValueError(f"names must name each of the {len(amounts)} amounts, got {len(names)}")
    figure = Figure(figsize=(5.2, 2.9 + 0.19 * -(-len(points) // 2)), layout="constrained")
    axes = figure.add_subplot()
    span = np.log2(amounts[-1] / amounts[0]) if log2 else amounts[-1] - amounts[0]
    step = 0.12 * (span or 1.0) / max(8, len(points))
    for k, (name, (xs, ys, bars)) in enumerate(points.items()):
        move = (k - (len(points) - 1) / 2) * step
        order = np.argsort(xs)  # type: ignore[arg-type]
        x = np.asarray(xs, dtype=np.float64)[order]
        axes.errorbar(
            x * 2**move if log2 else x + move,
            np.asarray(ys, dtype=np.float64)[order],
            yerr=None if bars is None else np.nan_to_num(np.asarray(bars, dtype=np.float64)[order]),
            label=name,
            color=CYCLE[k % len(CYCLE)],
            linestyle=DASHES[k % len(DASHES)],
            linewidth=1.5,
            marker=_MARKERS[k % len(_MARKERS)],
            markersize=4.2,
            elinewidth=1.0,
            capsize=2.5,
        )
    if level is not None:
        axes.axhline(level[1], label=level[0], color=MUTED, linestyle=":", linewidth=1.2, zorder=1)
    if log2:
        axes.set_xscale("log", base=2)
    axes.set_xticks(amounts, [f"{x:g}" for x in amounts] if names is None else names)
    axes.set_xticks([], minor=True)
    axes.grid(axis="y")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    handles, methods = axes.get_legend_handles_labels()
    if level is not None:  # matplotlib lists it before the methods
        handles, methods = [*handles[1:], handles[0]], [*methods[1:], methods[0]]
    columns = 2 if len(methods) > 1 and max(map(len, methods)) <= 30 else 1
    figure.legend(handles, methods, loc="outside lower left", ncols=columns, handlelength=2.8)
    settle(figure)
    return figure
