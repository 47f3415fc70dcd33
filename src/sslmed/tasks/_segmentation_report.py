"""Segmentation in the report: every test case, missed and false outlines, Dice by class, and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from .. import plots
from . import _report
from ._case_pictures import external_pictures, pictures
from ._report import (
    Block,
    Details,
    Entry,
    Figure,
    Finished,
    FinishedCell,
    Heading,
    Row,
    Table,
    TaskReport,
    Text,
)
from .metrics import metric, metrics_of

DASH = "\N{EN DASH}"
OUTLINES = (
    "Reference has an outline",
    "… prediction has none",
    "… no overlap with the reference",
    "Reference has none",
    "… false outline",
)


def images(finished: Finished) -> list[Block]:
    """The part of a task that outlines structures in images."""
    missed = _missed(finished, "images")
    classes = _by_class(finished)
    return [*_every_case(finished, "image", "segmentation"), *missed, *classes, *pictures(finished, "image")]


def volumes(finished: Finished) -> list[Block]:
    """The part of a task that outlines structures in volumes."""
    counts = [outlines(cell.rows) for cell in finished.all_cells()]
    some = any(one["missed"] or one["elsewhere"] or one["free"] for one in counts)
    return [
        *_every_case(finished, "volume", "volumes"),
        *(_missed(finished, "volumes") if some else []),
        *pictures(finished, "volume"),
    ]


def outlines(rows: Sequence[dict[str, str]]) -> Counter[str]:
    """Counts of test cases: with an outline in the reference and without, and of these the missed and false ones."""
    counts: Counter[str] = Counter()
    for row in rows:
        drawn = not int(row["pred_empty"])
        if int(row["target_empty"]):
            counts.update(free=1, false=drawn)
        else:
            counts.update(filled=1, missed=not drawn, elsewhere=drawn and float(row["dice"]) == 0)
    return counts


def _total(cells: Sequence[FinishedCell]) -> Counter[str]:
    return outlines([row for cell in cells for row in cell.rows])


def summary(finished: Finished) -> list[tuple[str, str]]:
    """Missed and false outlines in words, with the fewest labels."""
    texts = []
    for method in finished.main:
        counts = _total(finished.cells(method))
        if counts:
            text = f"no outline at all in {counts['missed']} of {counts['filled']} images with a reference outline"
            if counts["elsewhere"]:
                text += f", an outline without overlap with it in {counts['elsewhere']}"
            if counts["free"]:
                text += f", and an outline in {counts['false']} of {counts['free']} images without one"
            texts.append((finished.display(method), text))
    return texts


def _every_case(finished: Finished, case: str, kind: str) -> list[Block]:
    """A dot for each test case, in a figure for each metric."""
    found = {labels: figures for labels in finished.groups if (figures := _strips(finished, labels, kind))}
    if not found:
        return [] if any(cell.rows for cell in finished.all_cells()) else [Text(_report.NO_CASES)]
    of_training = " of one fine-tuning" if finished.trainings else ""
    blocks: list[Block] = [
        Heading("Every test case", "cases"),
        Text(
            f"Each dot is one test {case}{of_training}. The bar is the median; half of all cases lie inside the box. A "
            "mean hides the cases that failed; these pictures do not."
        ),
    ]
    for labels, figures in found.items():
        title = finished.labels(labels)
        if labels == finished.fewest or (len(found) < 4 and not finished.remark):
            blocks += [Heading(title, level=4), Row(figures[:2], 2)]
            if figures[2:]:
                opened = len(found) == 1 and not finished.remark
                blocks.append(Details(f"Other metrics, {title}", [Row(figures[2:], 2)], opened))
        else:
            blocks.append(Details(title, [Row(figures, 2)]))
    return blocks


def _strips(finished: Finished, labels: float, kind: str) -> list[Figure]:
    groups = finished.groups[labels]
    columns = dict.fromkeys(
        name for cells in groups.values() for cell in cells for row in cell.rows[:1] for name in row
    )
    found = []
    for m in metrics_of(kind, "cases"):
        parts = [name for name in columns if name.startswith(f"{m.key}_")]  # of each structure
        for key in parts if len(parts) > 1 else [m.key]:
            values = {
                finished.display(method): np.array([value for cell in cells for value in cell.values(key)])
                for method, cells in groups.items()
            }
            values = {name: numbers for name, numbers in values.items() if len(numbers)}
            if values:
                own = metric(key)
                plot = plots.metric_strip(values, xlabel=own.name, xlim=own.limits)
                alt = f"{own.name} of every test case with {finished.labels(labels)}"
                found.append(_report.figure(plot, alt))
    return found


def _missed(finished: Finished, cases: str) -> list[Block]:
    """Missed and false outlines by amount of labels and method, added over all fine-tunings."""
    some_free = _some_free(finished)

    def row(method: str, cells: Sequence[FinishedCell]) -> list[str]:
        counts = _total(cells)
        false = str(counts["false"]) if counts["free"] else DASH
        numbers = [str(counts[name]) for name in ("filled", "missed", "elsewhere")]
        without = [str(counts["free"]), false] if some_free else []
        return [finished.display(method), *numbers, *without, str(len(cells))]

    groups = finished.by_labels(row)
    if not groups:
        return []
    trainings = f" of all {finished.trainings}" if finished.trainings else ""
    rule = (
        "Where neither the reference nor the prediction has an outline, the case counts as full agreement (Dice 1, "
        "distance 0). Where only one of them has, it counts as none"
        if some_free
        else "All have a reference outline. Where the prediction has none, the case counts as no agreement"
    )
    return [
        Heading("Missed and false outlines", "misses"),
        Text(f"Counted over the test {cases}{trainings}. {rule} (Dice 0, distance the diagonal of the image)."),
        Table(["Method", *(OUTLINES if some_free else OUTLINES[:3]), "Fine-tunings"], groups),
    ]


def _some_free(finished: Finished) -> bool:
    """Whether the reference of some test case has no outline."""
    return any(outlines(cell.rows)["free"] for cell in finished.all_cells())


def _by_class(finished: Finished) -> list[Block]:
    """Median and quartiles of Dice by class, of the methods shown in full, with the fewest labels."""
    found: dict[str, dict[str, list[float]]] = {}
    for method in finished.main:
        for cell in finished.cells(method):
            for row in cell.rows:
                found.setdefault(method, {}).setdefault(row.get("label", ""), []).append(float(row["dice"]))
    found = {method: classes for method, classes in found.items() if set(classes) - {""}}
    if not found:
        return []
    names = sorted({name for classes in found.values() for name in classes})

    def entry(values: list[float]) -> Entry:
        if not values:
            return DASH
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return f"{median:.3f}", f"{low:.3f} to {high:.3f}, n = {len(values)}"

    rows = [
        [finished.display(method), *(entry(classes.get(name, [])) for name in names)]
        for method, classes in found.items()
    ]
    return [
        Heading(f"Dice by class, {finished.labels(finished.fewest)}"),
        Table(["Method", *(name or "no class" for name in names)], {"": rows}, below=True),
        Text(
            "Median; below it the first to the third quartile and the number of cases."
            + (
                " Where the reference has no outline, Dice can only be 1 (nothing outlined) or 0 (something outlined)."
                if _some_free(finished)
                else ""
            )
            + finished.remark,
            note=True,
        ),
    ]


_NOTE = (
    "TP: pixels in both outlines. FP: only in the prediction. FN: only in the reference. TN: in neither. What is not "
    "called pooled is computed for each case and then averaged. A case whose reference and prediction are both empty "
    "counts as full agreement (Dice 1, distance 0), one with only one of them empty as none (Dice 0, distance the "
    "diagonal of the image)."
)
IMAGES = TaskReport(
    "outline structures in images",
    "Outlines",
    "image",
    "images",
    images,
    _NOTE,
    "Missed and false outlines",
    summary,
    partial(external_pictures, "image"),
)
VOLUMES = TaskReport(
    "outline structures in volumes",
    "Outlines",
    "volume",
    "slices",
    volumes,
    _NOTE,
    pictures=partial(external_pictures, "volume"),
)
