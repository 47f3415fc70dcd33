"""Classification case by case: what was taken for what, confusion matrices, ROC and precision-recall curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ... import metrics, plots
from . import drawing
from .cell import Cell
from .drawing import Picture
from .run import Run, Target


def classes(run: Run, target: Target) -> list[str]:
    """The classes, in the order of their probabilities' columns."""
    names: dict[str, None] = {}
    for cell in run.cells:
        if cell.target == target.name and cell.cases:
            names |= {key.removeprefix("p_"): None for key in cell.cases[0] if key.startswith("p_")}
            names |= dict.fromkeys(name for case in cell.cases for name in (case["label"], case["predicted"]))
    return list(names)


def confusion(cells: list[Cell], names: list[str]) -> np.ndarray:
    """Counts by true and predicted class, added over the seeds."""
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    for cell in cells:
        for case in cell.cases:
            table[names.index(case["label"]), names.index(case["predicted"])] += 1
    return table


def mistakes(run: Run, target: Target) -> dict[float, list[dict[str, Any]]]:
    """Cases classified wrongly, of all and of each class, by amount of labels and method, added over the seeds."""
    names = classes(run, target)
    found: dict[float, list[dict[str, Any]]] = {}
    for labels, methods in run.groups(target).items():
        for method, cells in methods.items():
            table = confusion(cells, names)
            if table.sum():
                wrong = table.sum(1) - table.diagonal()
                own = {name: (int(wrong[k]), int(table[k].sum())) for k, name in enumerate(names)}
                seeds = sum(bool(cell.cases) for cell in cells)
                total = {"wrong": int(wrong.sum()), "cases": int(table.sum())}
                found.setdefault(labels, []).append(
                    {"method": method, "seeds": seeds, "classes": own} | total
                )
    return found


def told(run: Run, target: Target, labels: float) -> list[tuple[str, str]]:
    """The same in words, of the methods that the page shows in full."""
    shown = run.main_methods(target)
    texts = []
    for row in mistakes(run, target).get(labels, []):
        if row["method"] in shown:
            parts = [f"{wrong} of {cases} {name}" for name, (wrong, cases) in row["classes"].items() if cases]
            text = f"{row['wrong']} of {row['cases']} images ({', '.join(parts)})"
            texts.append((run.display(row["method"]), text))
    return texts


def matrices(run: Run, target: Target, labels: float) -> list[Picture]:
    """A confusion matrix for each method that the page shows in full."""
    names, found = classes(run, target), []
    for method in run.main_methods(target):
        table = confusion(run.groups(target)[labels].get(method, []), names)
        if table.sum():
            figure = plots.confusion_matrix(table, classes=names, title=run.display(method))
            rows = "; ".join(
                f"{name}: "
                + ", ".join(f"{count} as {other}" for count, other in zip(row, names, strict=True) if count)
                for name, row in zip(names, table, strict=True)
                if row.sum()
            )
            found.append(drawing.picture(figure, f"Confusion matrix of {run.display(method)}. {rows}"))
    return found


def ranking(run: Run, target: Target, labels: float) -> list[dict[str, Any]]:
    """ROC and precision-recall curves of the first seed of each method that the page shows in full."""
    found = []
    for method in run.main_methods(target):
        for cell in run.groups(target)[labels].get(method, [])[:1]:
            pictures = _curves(run, cell, classes(run, target))
            if pictures:
                found.append({"method": method, "seed": cell.seed, "pictures": pictures})
    return found


def _curves(run: Run, cell: Cell, names: list[str]) -> list[Picture]:
    if not cell.cases or not all(case.get(f"p_{name}") for case in cell.cases for name in names):
        return []
    scores = np.array([[float(case[f"p_{name}"]) for name in names] for case in cell.cases])
    target = np.array([names.index(case["label"]) for case in cell.cases])
    if not np.isfinite(scores).all():
        return []
    pictures = []
    for what, draw, area in (
        ("ROC curves", plots.roc_curves, metrics.roc_auc),
        ("Precision-recall curves", plots.precision_recall_curves, metrics.average_precision),
    ):
        areas = [
            area(torch.tensor(scores[:, k]), torch.tensor(target == k).long()).item()
            if 0 < (target == k).sum() < len(target)
            else None
            for k in range(len(names))
        ]
        said = ", ".join(
            f"{name} {value:.3f}" for name, value in zip(names, areas, strict=True) if value is not None
        )
        alt = f"{what} of {run.display(cell.method)}, each class against the rest; areas: {said}"
        pictures.append(drawing.picture(draw(scores, target, classes=names, areas=areas), alt))
    return pictures
