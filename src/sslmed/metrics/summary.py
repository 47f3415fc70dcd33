"""A table of per-case values, with the per-case and the pooled convention side by side.

Papers differ, often without a word: some print the mean over cases of each case's Dice, others one Dice of all pixels
of the test set pooled, where large lesions decide. The identity J = D / (2 - D) holds in each case and for the pooled
values, but not between means over cases; so it tells which of them a table shows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._values import Values, numbers

_HEAD = ("metric", "cases", "mean", "SD", "median", "IQR", "pooled")


@dataclass(frozen=True)
class Row:
    """One metric over the cases. A statistic is None where no value defines it.

    Attributes:
        metric: its name.
        cases: how many there are.
        undefined: how many of them are NaN; they are left out of the statistics.
        infinite: how many of them are infinite; they are in, so the mean is infinite and the SD None.
        mean: over the defined cases.
        sd: with n - 1; None for one case.
        median: linearly interpolated, as the quartiles.
        q1: lower end of the interquartile range.
        q3: upper end of it.
        pooled: the metric of all pixels of all cases together, where counts were given and it is an overlap.
    """

    metric: str
    cases: int
    undefined: int
    infinite: int
    mean: float | None
    sd: float | None
    median: float | None
    q1: float | None
    q3: float | None
    pooled: float | None


@dataclass(frozen=True)
class Summary:
    """Result of `summarize`: `str` gives a Markdown table, `to_csv` all numbers in full.

    Attributes:
        rows: one for each metric.
        empty: how many cases have an empty "target", an empty "pred", or "both"; None without counts.
    """

    rows: tuple[Row, ...]
    empty: dict[str, int] | None

    def __getitem__(self, metric: str) -> Row:
        """The row of a metric."""
        for row in self.rows:
            if row.metric == metric:
                return row
        raise KeyError(f"{metric!r} is none of {', '.join(repr(row.metric) for row in self.rows)}")

    def __str__(self) -> str:
        """A Markdown table in aligned columns, and a line for all that is empty, undefined or infinite."""
        cells = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[k]) for line in cells) for k in range(len(_HEAD))]
        head, *body = (
            "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
            for line in cells
        )
        rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
        notes = [_note(row) for row in self.rows if row.undefined or row.infinite]
        if self.empty is not None:
            target, pred, both = (self.empty[name] for name in ("target", "pred", "both"))
            notes.append(f"Empty masks: {target} in the target, {pred} in the prediction, {both} in both.")
        return "\n".join([head, rule, *body, *([""] if notes else []), *notes])

    def to_csv(self) -> str:
        """All numbers in full, a line for each metric; None is an empty field."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = list(Row.__dataclass_fields__)
        empty = self.empty or dict.fromkeys(("target", "pred", "both"))
        writer.writerow([*names, *(f"empty_{name}" for name in empty)])
        writer.writerows([[*(getattr(row, name) for name in names), *empty.values()] for row in self.rows])
        return text.getvalue()


def summarize(values: Mapping[str, Values], *, counts: torch.Tensor | None = None) -> Summary:
    """Turn per-case values into a table: mean, SD, median, quartiles, and the pooled value beside them.

    No case drops out unseen: undefined and infinite values are counted in the row and named below the table.

    Args:
        values: name of a metric -> (N,) its value in each case, as `dice` and `hausdorff` return them; the cases in the
            same order everywhere.
        counts: (N, 4) of `pixel_counts` on the same cases. It gives the counts of empty masks, and the pooled value of
            the metrics named dice, jaccard, precision, recall, pixel_accuracy and balanced_pixel_accuracy.

    Returns:
        Summary with a row for each metric, in the order of `values`.

    Raises:
        TypeError: values that are no numbers, or counts that are not integers.
        ValueError: no metric, no case, or numbers of cases that differ.

    Example:
        >>> from sslmed.metrics import dice, pixel_counts
        >>> pred, target = torch.zeros(3, 8, 8, dtype=torch.bool), torch.zeros(3, 8, 8, dtype=torch.bool)
        >>> pred[0, :4] = target[0, :4] = pred[1, 0, :2] = target[1, 0, 1:3] = True
        >>> print(summarize({"dice": dice(pred, target)}, counts=pixel_counts(pred, target)))
        | metric | cases |  mean |    SD | median |            IQR | pooled |
        |--------|------:|------:|------:|-------:|---------------:|-------:|
        | dice   |     3 | 0.833 | 0.289 |  1.000 | 0.750 to 1.000 |  0.971 |
        <BLANKLINE>
        Empty masks: 1 in the target, 1 in the prediction, 1 in both.
    """
    if not values:
        raise ValueError("values must hold at least one metric, got none")
    columns = {name: numbers(f"values[{name!r}]", column, least=1).numpy() for name, column in values.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if counts is not None:
        _checks.shaped("counts", counts, "(N, 4)", ndim=2)
        if counts.shape[1] != 4:
            raise ValueError(f"counts must have shape (N, 4), as of pixel_counts, got {tuple(counts.shape)}")
        if counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool:
            raise TypeError(f"counts must be a tensor of integers, got {counts.dtype}")
        lengths["counts"] = len(counts)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"values and counts must be of the same cases, got {lengths}")
    pooled = {} if counts is None else _pooled(*counts.sum(0).tolist())
    return Summary(
        rows=tuple(_row(name, column, pooled.get(name)) for name, column in columns.items()),
        empty=None if counts is None else _empty(counts),
    )


def _row(name: str, values: npt.NDArray[np.float64], pooled: float | None) -> Row:
    defined = values[~np.isnan(values)]
    infinite = int(np.isinf(defined).sum())
    ordered = np.sort(defined)
    q1, median, q3 = (_quantile(ordered, q) if len(ordered) else None for q in (0.25, 0.5, 0.75))
    return Row(
        metric=name,
        cases=len(values),
        undefined=len(values) - len(defined),
        infinite=infinite,
        mean=float(defined.mean()) if len(defined) else None,
        sd=float(defined.std(ddof=1)) if len(defined) > 1 and not infinite else None,
        median=median,
        q1=q1,
        q3=q3,
        pooled=pooled,
    )


def _quantile(ordered: npt.NDArray[np.float64], q: float) -> float:
    """Interpolate linearly, as numpy.quantile, which gives NaN where a neighbour is infinite."""
    rank = q * (len(ordered) - 1)
    low, part = ordered[int(rank)], rank - int(rank)
    high = ordered[int(rank) + 1] if part else low
    return float(low if low == high else low + part * (high - low))


def _pooled(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """The overlaps of all pixels together, under the policy for empty masks."""

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float(fp + fn == 0)

    return {
        "dice": share(2 * tp, 2 * tp + fp + fn),
        "jaccard": share(tp, tp + fp + fn),
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "pixel_accuracy": share(tp + tn, tp + fp + fn + tn),
        "balanced_pixel_accuracy": (share(tp, tp + fn) + share(tn, tn + fp)) / 2,
    }


def _empty(counts: torch.Tensor) -> dict[str, int]:
    tp, fp, fn, _ = counts.unbind(1)
    target, pred = tp + fn == 0, tp + fp == 0
    return {"target": int(target.sum()), "pred": int(pred.sum()), "both": int((target & pred).sum())}


def _cells(row: Row) -> tuple[str, ...]:
    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    cases = f"{row.cases - row.undefined} of {row.cases}" if row.undefined else str(row.cases)
    iqr = "-" if row.q1 is None else f"{text(row.q1)} to {text(row.q3)}"
    return row.metric, cases, text(row.mean), text(row.sd), text(row.median), iqr, text(row.pooled)


def _note(row: Row) -> str:
    counts = [f"{row.undefined} undefined (NaN) and left out"] if row.undefined else []
    counts += [f"{row.infinite} infinite"] if row.infinite else []
    return f"{row.metric}: of {row.cases} cases {', '.join(counts)}."
