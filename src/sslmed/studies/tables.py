"""The tables of a study: ours beside the paper's with both spreads, and paired tests over the cases."""

from __future__ import annotations

import io
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..tasks.metrics import metric
from .cells import SUPERVISED, Target, amount, seed_word
from .choice import tabulated
from .results import Result
from .runs import write_csv, write_text

TABLE = (
    "target",
    "test_set",
    "labels",
    "method",
    "metric",
    "mean",
    "sd_cases",
    "sd_seeds",
    "sd_repeats",
    "seeds",
    "repeats",
    "cases",
    "paper",
    "paper_sd",
    "paper_set",
    "why_not_comparable",
)
NO_ROW = "the paper prints no such number"


@dataclass(frozen=True)
class Published:
    """A row of a paper's table.

    Attributes:
        of: the table and its set.
        values: value and SD of each metric, as printed.
        why_not_comparable: the reason why ours and these numbers are not comparable.
    """

    of: str
    values: Mapping[str, tuple[str, str]]
    why_not_comparable: str = ""


@dataclass(frozen=True)
class Frame:
    """The order of the tables, and what their numbers come from.

    Attributes:
        targets: in their order.
        methods: in their order.
        unit: of the labels.
        baselines: methods that others are tested against.
        test_sets: names of the external test sets, in their order.
        folds: number of folds of a cross-validation, which the seeds then number, or None.
        smoke: whether the run only checks the installation.
    """

    targets: Sequence[Target]
    methods: Sequence[str]
    unit: str
    baselines: Sequence[str] = (SUPERVISED,)
    test_sets: Sequence[str] = ()
    folds: int | None = None
    smoke: bool = False

    @property
    def seed_word(self) -> str:
        """What a seed is called, "seed" or "fold"."""
        return seed_word(self.folds)

    @property
    def tested(self) -> tuple[str, ...]:
        """What cells are tested on: "" for the usual test part, and the external test sets."""
        return ("", *self.test_sets)


def grouped(folder: Path, frame: Frame, test_set: str = "") -> dict[tuple[str, float, str], list[Result]]:
    """The results on a test set by target, labels and method, most labels first; one for each seed and repeat."""
    order = {target.name: k for k, target in enumerate(frame.targets)}
    rank = {method: k for k, method in enumerate(frame.methods)}
    found: dict[tuple[str, float, str], list[Result]] = {}
    tested = [one for cell in tabulated(folder) if (one := cell.on(test_set)) is not None]
    for cell in sorted(tested, key=lambda c: (order[c.target], -c.labels, rank[c.method], c.seed, c.repeat)):
        found.setdefault((cell.target, cell.labels, cell.method), []).append(cell)
    return found


def write_table(
    folder: Path,
    frame: Frame,
    published: Mapping[tuple[str, str, str, str], Published],
) -> list[dict[str, Any]]:
    """Our results beside the paper's, a row for each target, test set, labels, method and metric; also as table.csv.

    The mean is over seeds of the mean over repeats of the mean over cases. `sd_cases` is the SD over test cases (mean
    over all fine-tunings), empty for metrics of the whole set; `sd_seeds` the SD of the seeds' means, empty for one
    seed; `sd_repeats` the SD over the repeats of one seed (mean over the seeds), empty for one repeat: do not mix the
    three. `cases` counts the test cases of a seed, or of all folds together.

    Args:
        folder: the run folder.
        frame: the order.
        published: (target, test set, labels as `amount` words them, method) -> what the paper publishes of it.
    """
    rows, nothing = [], Published("", {})
    found = {
        (test_set, *key): cells for test_set in frame.tested for key, cells in grouped(folder, frame, test_set).items()
    }
    for (test_set, target, labels, method), cells in found.items():
        theirs = published.get((target, test_set, amount(labels, frame.unit), method), nothing)
        for key in next(t.metrics for t in frame.targets if t.name == target):
            repeats = by_seed(cells, key)
            if not repeats:
                continue
            means = [statistics.fmean(values) for values in repeats]
            repeated = [statistics.stdev(values) for values in repeats if len(values) > 1]
            spreads = [sd for c in cells if (sd := c.sd.get(key)) is not None]
            value, paper_sd = theirs.values.get(key, ("", ""))
            shown = metric(key).shown
            rows.append(
                {
                    "target": target,
                    "test_set": test_set,
                    "labels": amount(labels, frame.unit),
                    "method": method,
                    "metric": key,
                    "mean": shown(statistics.fmean(means)),
                    "sd_cases": shown(statistics.fmean(spreads)) if spreads else "",
                    "sd_seeds": shown(statistics.stdev(means)) if len(means) > 1 else "",
                    "sd_repeats": shown(statistics.fmean(repeated)) if repeated else "",
                    "seeds": len(means),
                    "repeats": max(map(len, repeats)),
                    "cases": _cases(cells, frame),
                    "paper": value,
                    "paper_sd": paper_sd,
                    "paper_set": theirs.of if value else "",
                    "why_not_comparable": theirs.why_not_comparable if value else NO_ROW if published else "",
                }
            )
    write_csv(folder / "table.csv", rows, columns=TABLE)
    return rows


def _cases(cells: Sequence[Result], frame: Frame) -> int:
    """How many cases were tested: those of one seed, or of all folds, each of which has its own."""
    if frame.folds is None or cells[0].test_set:
        return cells[0].cases
    return sum({cell.seed: cell.cases for cell in cells}.values())


def by_seed(cells: Iterable[Result], key: str) -> list[list[float]]:
    """A metric of the fine-tunings for which it is defined: a list for each seed, with a value for each repeat."""
    found: dict[int, list[float]] = {}
    for cell in cells:
        value = cell.mean.get(key, math.nan)
        if not math.isnan(value):
            found.setdefault(cell.seed, []).append(value)
    return list(found.values())


def collect_cases(folder: Path) -> None:
    """Write metrics.csv: every test case of every finished cell and test set, with the columns of all kinds of task."""
    identity = ["target", "test_set", "method", "labels", "seed", "repeat"]
    parts = [
        pd.DataFrame(one.rows).assign(**{name: getattr(one, name) for name in identity})
        for cell in tabulated(folder)
        for one in (cell, *map(cell.on, cell.test_sets))
        if one is not None
    ]
    cases = pd.concat(parts) if parts else pd.DataFrame(columns=[*identity, "id"])
    text = io.StringIO()
    cases[[*identity, *cases.columns.drop(identity)]].to_csv(text, index=False, lineterminator="\n")
    write_text(folder / "metrics.csv", text.getvalue())


def show(rows: list[dict[str, Any]], tests: list[dict[str, Any]], frame: Frame) -> str:
    """The tables as text for the terminal: each target's first metrics by test set, then the tests."""
    lines, printed = [], any(row["paper"] for row in rows)
    head = ["labels", "method", "metric", *(["ours", "paper"] if printed else ["mean"])]
    for target, test_set in itertools.product(frame.targets, frame.tested):
        own = [row for row in rows if (row["target"], row["test_set"]) == (target.name, test_set)]
        shown = [row for row in own if row["metric"] in (target.metric, *target.metrics[:2])]
        if shown:
            title = f"{target.title}, tested on {test_set}" if test_set else target.title
            lines += ["", title, *_aligned([head, *(_texts(row, frame.seed_word)[: len(head)] for row in shown)])]
        lines += [_line(test) for test in tests if (test["target"], test["test_set"]) == (target.name, test_set)]
    reasons = sorted({row["why_not_comparable"] for row in rows if row["paper"]})
    notes = [f"± is the SD over test cases; ({frame.seed_word}s ±) that of the {frame.seed_word}s' means."]
    if any(row["sd_repeats"] for row in rows):
        notes.append("(repeats ±) is the SD over repeated fine-tunings of one split and one pretext.")
    return "\n".join([*lines, *notes, *(f"Not comparable: {reason}" for reason in reasons)])


def _texts(row: Mapping[str, Any], seed_word: str) -> list[str]:
    """A row of the table for the terminal: labels, method, metric, our number, the paper's."""
    ours = row["mean"] + (f" ± {row['sd_cases']}" if row["sd_cases"] else "")
    for what, key in ((f"{seed_word}s", "sd_seeds"), ("repeats", "sd_repeats")):
        ours += f" ({what} ± {row[key]})" if row[key] else ""
    paper = (row["paper"] or "-") + (f" ± {row['paper_sd']}" if row["paper_sd"] else "")
    return [row["labels"], row["method"], metric(row["metric"]).name, ours, paper]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _line(test: Mapping[str, Any]) -> str:
    gap, low, high = (float(test[key]) for key in ("difference", "ci_low", "ci_high"))
    p = f"no p-value ({test['no_p']})" if test["no_p"] else f"p = {float(test['p_holm']):.2g} after Holm"
    return (
        f"  {test['labels']}: {test['method']} against {test['against']}: {test['metric']} {gap:+.3f} "
        f"({low:+.3f} to {high:+.3f}), {test['cases']} cases, {p}"
    )
