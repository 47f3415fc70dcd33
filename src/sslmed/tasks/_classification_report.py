"""Classification in the report: wrongly classified cases, confusion matrices, ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .. import metrics, plots
from . import _report
from ._report import Block, Entry, Figure, Finished, FinishedCell, Heading, Row, Table, TaskReport, Text


def blocks(finished: Finished) -> list[Block]:
    """The part of a task that classifies images."""
    return [*_wrong(finished), *_rates(finished), *_matrices(finished), *_rankings(finished)]


def classes(finished: Finished) -> list[str]:
    """The classes, in the order of their probabilities' columns."""
    names: dict[str, None] = {}
    for cell in finished.all_cells():
        if cell.rows:
            names |= {key.removeprefix("p_"): None for key in cell.rows[0] if key.startswith("p_")}
            names |= dict.fromkeys(name for row in cell.rows for name in (row["label"], row["predicted"]))
    return list(names)


def confusion(cells: Sequence[FinishedCell], names: list[str]) -> np.ndarray:
    """Counts by true and predicted class, added over all fine-tunings."""
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    for cell in cells:
        for row in cell.rows:
            table[names.index(row["label"]), names.index(row["predicted"])] += 1
    return table


def summary(finished: Finished) -> list[tuple[str, str]]:
    """Wrongly classified cases in words, with the fewest labels."""
    names, texts = classes(finished), []
    for method in finished.main:
        table = confusion(finished.cells(method), names)
        if table.sum():
            parts = [f"{row.sum() - row[k]} of {row.sum()} {names[k]}" for k, row in enumerate(table) if row.sum()]
            wrong = table.sum() - table.trace()
            texts.append((finished.display(method), f"{wrong} of {table.sum()} images ({', '.join(parts)})"))
    return texts


def _wrong(finished: Finished) -> list[Block]:
    """Cases classified wrongly, of all and of each class, by amount of labels and method."""
    names = classes(finished)

    def row(method: str, cells: Sequence[FinishedCell]) -> list[Entry]:
        table = confusion(cells, names)
        all_cases = str(table.sum() - table.trace()), f"of {table.sum()}"
        of_class = [(str(own.sum() - own[k]), f"of {own.sum()}") for k, own in enumerate(table)]
        return [finished.display(method), all_cases, *of_class, str(len(cells))]

    groups = finished.by_labels(row)
    if not groups:
        return [Text(_report.NO_CASES)]
    trainings = f", added over the {finished.trainings}" if finished.trainings else ""
    return [
        Heading("Classified wrongly", "mistakes"),
        Text(f"Test images that were assigned a wrong class{trainings}; on the right, by true class."),
        Table(["Method", "Wrong", *names, "Fine-tunings"], groups),
    ]


def rates(table: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """Sensitivity and specificity of each class against the rest, of counts by true and predicted class.

    A class without a case has no sensitivity, one that has all cases no specificity.
    """
    total, true, predicted, found = table.sum(), table.sum(1), table.sum(0), table.diagonal()
    sensitivity = [float(tp / n) if n else None for tp, n in zip(found, true, strict=True)]
    specificity = [
        float((total - n - p + tp) / (total - n)) if total > n else None
        for tp, n, p in zip(found, true, predicted, strict=True)
    ]
    return sensitivity, specificity


def _rates(finished: Finished) -> list[Block]:
    """Sensitivity and specificity of each class, by amount of labels and method, from the cases of all fine-tunings."""
    names = classes(finished)

    def row(method: str, cells: Sequence[FinishedCell]) -> list[Entry]:
        values = [value for part in rates(confusion(cells, names)) for value in part]
        return [finished.display(method), *("\N{EN DASH}" if value is None else f"{value:.3f}" for value in values)]

    groups = finished.by_labels(row)
    if not groups:
        return []
    trainings = f", with the cases of all {finished.trainings} together" if finished.trainings else ""
    head = [f"{rate}, {name}" for rate in ("Sensitivity", "Specificity") for name in names]
    return [
        Heading("Sensitivity and specificity by class"),
        Text(
            "Each class against the rest: sensitivity is the share of its cases that were found, specificity the "
            f"share of all other cases that were not taken for it{trainings}."
        ),
        Table(["Method", *head], groups),
    ]


def _matrices(finished: Finished) -> list[Block]:
    """A confusion matrix for each method shown in full, with the fewest labels."""
    names, found = classes(finished), []
    for method in finished.main:
        table = confusion(finished.cells(method), names)
        if table.sum():
            plot = plots.confusion_matrix(table, classes=names, title=finished.display(method))
            rows = "; ".join(
                f"{name}: " + ", ".join(f"{count} as {other}" for count, other in zip(row, names, strict=True) if count)
                for name, row in zip(names, table, strict=True)
                if row.sum()
            )
            found.append(_report.figure(plot, f"Confusion matrix of {finished.display(method)}. {rows}"))
    if not found:
        return []
    trainings = f" over all {finished.trainings}" if finished.trainings else ""
    return [
        Heading(f"Confusion matrices, {finished.labels(finished.fewest)}"),
        Text(
            f"Counts{trainings}, and their share of the row: how images of a true class were classified. Bold: "
            f"classified correctly.{finished.remark}"
        ),
        Row(found, 3 if len(found) == 3 else 0),
    ]


def _rankings(finished: Finished) -> list[Block]:
    """ROC and precision-recall curves of the first seed of each method shown in full, with the fewest labels."""
    names, found = classes(finished), list[Block]()
    for method in finished.main:
        for cell in finished.cells(method)[:1]:
            if figures := _curves(finished, cell, names):
                found += [Heading(f"{finished.display(method)}, {cell.training}", level=4), Row(figures)]
    if not found:
        return []
    one = (
        "; one fine-tuning of each method, since scores of different trainings share no scale"
        if finished.trainings
        else ""
    )
    return [
        Heading(f"ROC and precision-recall curves, {finished.labels(finished.fewest)}"),
        Text(
            f"Each class against the rest, as the threshold on its probability falls{one}. With few cases of a class a "
            "line has few steps, and its area is uncertain. The tick at the right border of the second picture is the "
            f"share of the class among the cases, which guessing would reach.{finished.remark}"
        ),
        *found,
    ]


def _curves(finished: Finished, cell: FinishedCell, names: list[str]) -> list[Figure]:
    if not cell.rows or not all(row.get(f"p_{name}") for row in cell.rows for name in names):
        return []
    scores = np.array([[float(row[f"p_{name}"]) for name in names] for row in cell.rows])
    target = np.array([names.index(row["label"]) for row in cell.rows])
    if not np.isfinite(scores).all():
        return []
    figures = []
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
        known = ", ".join(f"{name} {a:.3f}" for name, a in zip(names, areas, strict=True) if a is not None)
        alt = f"{what} of {finished.display(cell.method)}, each class against the rest; areas: {known}"
        figures.append(_report.figure(draw(scores, target, classes=names, areas=areas), alt))
    return figures


CLASSES = TaskReport(
    "classify images",
    "Classes",
    "image",
    "images",
    blocks,
    headline="Classified wrongly",
    summary=summary,
)
