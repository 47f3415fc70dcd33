"""Figures of numbers: the effect of more labels, and the curves of both trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ... import plots
from ...tasks import _report
from ...tasks._report import Figure
from ...tasks.metrics import METRICS, metric
from ..cells import Target
from ..results import Curve
from . import facts
from .run import Run

MANY = 5  # lines beyond which a picture of curves becomes a panel for each method
LONGEST = 20  # letters of a metric's name that fit beside an axis
MONITORED = {
    "knn_accuracy": "kNN accuracy",
    "linear_accuracy": "linear probe accuracy",
    "matched": "share of views found",
    "effective_rank": "effective rank (RankMe)",
    "lidar": "LiDAR",
    "feature_std": "spread of the features",
    "alignment": "alignment",
    "uniformity": "uniformity",
}
COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "loss": "total loss",
    **MONITORED,
}


def gain(run: Run, target: Target) -> Figure | None:
    """The target's metric against the amount of labels, where there is more than one amount."""
    if run.outlook.get("metric") == target.metric:
        return _outlook(run)
    rows = run.rows(target)
    methods = list(dict.fromkeys(method for by in rows.values() for method in by))
    shown = methods if len(methods) <= 7 else run.main_methods(target)
    lines = {}
    for method in shown:
        points = [
            (labels, float(row["mean"]), float(row["sd_seeds"] or row.get("sd_repeats") or "nan"))
            for labels, by in rows.items()
            if (row := by.get(method, {}).get(target.metric)) and row["mean"]
        ]
        if points:
            x, y, bars = np.array(points).T
            lines[run.display(method)] = (x, y, bars if np.isfinite(bars).any() else None)
    if len({x for line in lines.values() for x in line[0]}) < 2:
        return None
    xlabel = "labels of the training set (%)" if run.unit == "%" else f"labelled {run.unit}"
    figure = plots.label_curves(
        lines, xlabel=xlabel, ylabel=metric(target.metric).name, log2=run.unit != "%", level=_with_all(run, target)
    )
    alt = f"{metric(target.metric).name} against the amount of labels: " + ", ".join(lines)
    over = f"{run.seed_word}s" if any(row["sd_seeds"] for row in run.table) else "repeated fine-tunings"
    caption = f"Bars: SD over the {over}." if any(bars is not None for *_, bars in lines.values()) else ""
    if len(shown) < len(methods):
        caption = f"Of {len(methods)} methods, the baseline, {run.proposal} and the best. {caption}".strip()
    return _report.figure(figure, alt, caption=caption)


def _outlook(run: Run) -> Figure:
    """Learning curves against the number of outlined images, and what more of them would bring."""
    lines, methods = {}, run.outlook["methods"]
    for method, found in methods.items():
        x, y, high = (np.array([point[name] for point in found["points"]]) for name in ("outlines", "mean", "high"))
        lines[run.display(method)] = (x, y, high - y)
    name = metric(run.outlook["metric"]).name
    figure = plots.label_curves(lines, xlabel="outlined images that a network learned from", ylabel=name, log2=True)
    sentences = " ".join(found["sentence"] for found in methods.values())
    bars = f"Bars: 95 % intervals over patients and {run.seed_word}s."
    alt = f"{name} against the number of outlined images: " + ", ".join(lines)
    return _report.figure(figure, alt, caption=f"{bars} {sentences}")


def _with_all(run: Run, target: Target) -> tuple[str, float] | None:
    """What the baseline reaches with all training volumes, where volumes are counted and it was trained on all."""
    rows = run.rows(target)
    if run.unit == "%" or not rows:
        return None
    most, baseline = max(rows), next(iter(run.baselines()), "")
    row = rows[most].get(baseline, {}).get(target.metric, {})
    if not row.get("mean") or not any(one.labelled.get(most) == one.sizes["train"] for one in facts.splits(run)):
        return None
    return f"{run.display(baseline)}, all {most:.6g} {run.unit}", float(row["mean"])


def tuning(run: Run, target: Target, labels: float) -> list[Figure]:
    """Fine-tuning curves of one target at one amount of labels."""
    groups = run.groups(target)[labels]
    cells = [cell for method, cells in groups.items() if method != run.config.get("choice") for cell in cells]
    curves = [curve for curve in (cell.curve() for cell in cells) if curve.columns]
    names = _names(curves)
    where = f"with {run.share(labels)}"
    return [p for name in names for p in _together(curves, name, where, run.display)]


def pretext(run: Run) -> tuple[list[Figure], list[Figure]]:
    """Pretext curves: total loss and spread of the features; and the parts of the losses."""
    curves = [curve for curve in run.pretext_curves() if curve.columns]
    names = _names(curves)
    main = [name for name in ("loss", "feature_std") if name in names]
    first, rest = (
        [
            p
            for name in chosen
            for p in _apart(curves, name, "in pretext learning", run.display, sharey=name == "feature_std")
        ]
        for chosen in (main, [name for name in names if name not in main])
    )
    return (first, rest) if first else (rest, [])


def monitored(run: Run) -> tuple[list[Figure], list[Figure]]:
    """What was measured of the encoders during pretext learning: what they find, and the rest."""
    curves = run.pretext_monitors()
    first, rest = list[Figure](), list[Figure]()
    for name in _names(curves):
        shares = name in {"knn_accuracy", "linear_accuracy", "matched"}
        (first if shares else rest).extend(_apart(curves, name, "during pretext learning", run.display, sharey=True))
    return first, rest


def _together(found: Sequence[Curve], column: str, where: str, display: Callable[[str], str]) -> list[Figure]:
    """All methods in one picture; too many go into a panel each, on one scale."""
    held = _held(found, column)
    if len({curve.title for curve in held}) > MANY:
        return _apart(held, column, where, display, sharey=True)
    if not held:
        return []
    runs = {f"{c.title}, {c.training}": _points(c, column) for c in held}
    groups = {f"{c.title}, {c.training}": display(c.title) for c in held}
    measured = METRICS.get(column.removeprefix("val_"))
    limits = measured.limits if measured else None
    figure = plots.curves(runs, ylabel=column_name(column), groups=groups, ylim=limits)
    return [_report.figure(figure, f"{column_name(column)} {where}: " + ", ".join(dict.fromkeys(groups.values())))]


def _apart(
    found: Sequence[Curve], column: str, where: str, display: Callable[[str], str], *, sharey: bool
) -> list[Figure]:
    held = _held(found, column)
    if not held:
        return []
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for curve in held:
        panels.setdefault(display(curve.title), {})[curve.training] = _points(curve, column)
    # The spread is judged by its distance from 0, so the axis starts there.
    limits = (
        (0.0, 1.1 * max(float(np.nanmax(c.columns[column])) for c in held) or 1.0) if column == "feature_std" else None
    )
    figure = plots.curve_panels(panels, ylabel=column_name(column), sharey=sharey, ylim=limits)
    return [_report.figure(figure, f"{column_name(column)} {where}: " + ", ".join(panels))]


def _names(found: Sequence[Curve]) -> list[str]:
    """The columns to draw: those that have a name of their own first, in its order."""
    names = dict.fromkeys(name for curve in found for name in curve.columns if name not in {"epoch", "lr"})
    return sorted(names, key=lambda name: list(COLUMNS).index(name) if name in COLUMNS else len(COLUMNS))


def _held(found: Sequence[Curve], column: str) -> list[Curve]:
    return [c for c in found if column in c.columns and np.isfinite(c.columns[column]).any()]


def _points(curve: Curve, column: str) -> tuple[list[float], list[float]]:
    values = curve.columns[column]
    epochs = curve.columns.get("epoch") or [float(k) for k in range(len(values))]
    return [epoch + 1 for epoch in epochs], values  # counted from 1, as the progress is


def column_name(column: str) -> str:
    """A column of curves.csv in words."""
    measured = METRICS.get(column.removeprefix("val_"))
    if measured is None:
        return COLUMNS.get(column, column.replace("_", " "))
    name = measured.name.partition(" (")[0]
    return f"validation {name if len(name) <= LONGEST else measured.short}"
