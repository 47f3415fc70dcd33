"""Classification as pictures: ROC and precision-recall curves of each class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._inputs import Array, array, same_length
from ._style import CYCLE, DASHES, INK, MUTED, settle, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]


@styled
def roc_curves(
    scores: Array, target: Array, *, classes: Sequence[str], areas: Sequence[float | None] | None = None
) -> Figure:
    """True positive rate against false positive rate, a line for each class against the rest.

    Args:
        scores: (N, C) floating point, higher where a class is likelier.
        target: (N,) integers in 0..C - 1.
        classes: C names.
        areas: C numbers for the legend, as from `sslmed.metrics.roc_auc`; None for a class without one.

    Returns:
        The figure, half a report page wide. A class that has all cases or none has no line; the legend says so.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths, NaN scores, or a class out of range.

    Example:
        >>> scores = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
        >>> figure = roc_curves(scores, [0, 1, 1], classes=["benign", "malignant"], areas=[1.0, 1.0])
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['benign, area 1.000', 'malignant, area 1.000']
    """
    values, truth = _scored(scores, target, classes, areas)
    figure, axes = _square("1 \N{MINUS SIGN} specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
    lines = []
    for k in range(len(classes)):
        hits, alarms = _cumulative(values[:, k], truth == k)
        rates = (alarms / alarms[-1], hits / hits[-1]) if hits[-1] and alarms[-1] else None
        lines += axes.plot(*(rates or ([], [])), **_line(k))
    _legend(figure, lines, classes, truth, areas, least=1)
    return figure


@styled
def precision_recall_curves(
    scores: Array, target: Array, *, classes: Sequence[str], areas: Sequence[float | None] | None = None
) -> Figure:
    """Precision against recall, a stepped line for each class against the rest.

    Args:
        scores: (N, C) floating point, higher where a class is likelier.
        target: (N,) integers in 0..C - 1.
        classes: C names.
        areas: C numbers for the legend, as from `sslmed.metrics.average_precision`; None for a class without one.

    Returns:
        The figure, half a report page wide. The short tick at the right end of a colour is the class's share of the
        cases, which scores without information would reach. A class without a case has no line.

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or lengths, NaN scores, or a class out of range.

    Example:
        >>> figure = precision_recall_curves([[0.9, 0.1], [0.4, 0.6]], [0, 1], classes=["benign", "malignant"])
        >>> figure.axes[0].get_ylabel()
        'precision'
    """
    values, truth = _scored(scores, target, classes, areas)
    figure, axes = _square("recall (sensitivity)", "precision")
    lines = []
    for k in range(len(classes)):
        hits, alarms = _cumulative(values[:, k], truth == k)
        points: tuple[Any, Any] = ([], [])
        if hits[-1]:
            # The empty prediction has no precision; the line starts at that of the highest scores.
            precision = hits[1:] / (hits[1:] + alarms[1:])
            points = (hits / hits[-1], np.concatenate([precision[:1], precision]))
            axes.plot([1.005, 1.035], [np.mean(truth == k)] * 2, color=CYCLE[k % len(CYCLE)], linewidth=2.2)
        lines += axes.step(*points, where="pre", **_line(k))
    _legend(figure, lines, classes, truth, areas, least=0)
    return figure


def _scored(
    scores: Array, target: Array, classes: Sequence[str], areas: Sequence[float | None] | None
) -> tuple[Floats, npt.NDArray[Any]]:
    values, truth = array(scores), array(target)
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"scores must be floating point, got {values.dtype}")
    if not np.issubdtype(truth.dtype, np.integer):
        raise TypeError(f"target must be integers, got {truth.dtype}")
    if values.ndim != 2 or values.shape[1] != len(classes) or truth.ndim != 1:
        raise ValueError(
            f"scores must have shape (N, {len(classes)}) and target (N,), got {values.shape} and {truth.shape}"
        )
    same_length(scores=values, target=truth)
    if np.isnan(values).any():
        raise ValueError("scores must be numbers, got NaN")
    if truth.min() < 0 or truth.max() >= len(classes):
        raise ValueError(f"target must lie in 0..{len(classes) - 1}, got {truth.min()} to {truth.max()}")
    if areas is not None and len(areas) != len(classes):
        raise ValueError(f"areas must have {len(classes)} entries, one for each class, got {len(areas)}")
    return values.astype(np.float64), truth


def _cumulative(scores: Floats, positive: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """True and false positives from the highest threshold to the lowest; equal scores fall together."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # no differences, which infinite scores do not have
    hits, alarms = (np.cumsum(of[order])[last] for of in (positive, ~positive))
    return np.append(0.0, hits), np.append(0.0, alarms)


def _square(xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 3.7), layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.04), ylim=(-0.02, 1.03))
    axes.set_xticks(np.arange(0, 1.1, 0.2))
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    axes.grid()
    return figure, axes


def _line(k: int) -> dict[str, Any]:
    return {"color": CYCLE[k % len(CYCLE)], "linestyle": DASHES[k % len(DASHES)], "linewidth": 1.7}


def _legend(
    figure: Figure,
    lines: list[Any],
    classes: Sequence[str],
    truth: npt.NDArray[Any],
    areas: Sequence[float | None] | None,
    *,
    least: int,
) -> None:
    """Names with areas; a class with no case, or (`least` = 1) without a case outside it, is said to have no line."""
    texts = []
    for k, name in enumerate(classes):
        own = int((truth == k).sum())
        area = None if areas is None else areas[k]
        drawn = own > 0 and len(truth) - own >= least
        texts.append(f"{name}: no line" if not drawn else name if area is None else f"{name}, area {area:.3f}")
    figure.set_figheight(3.35 + 0.19 * len(texts))
    figure.legend(lines, texts, loc="outside lower left", handlelength=2.6, labelcolor=INK)
    settle(figure)
