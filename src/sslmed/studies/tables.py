"""The tables of a study: ours beside the paper's with both spreads, and paired tests over the cases."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics import compare
from .runs import read_csv, write_csv
from .study import SUPERVISED, Target, amount, results

TABLE = (
    "target", "labels", "method", "metric", "mean", "sd_cases", "sd_seeds", "seeds", "cases",
    "paper", "paper_sd", "paper_set", "why_not_comparable",
)  # fmt: skip
TESTS = (
    "target", "labels", "method", "against", "metric", "difference", "ci_low", "ci_high", "p", "p_holm",
    "cases", "seeds",
)  # fmt: skip
NO_ROW = "the paper prints no such number"


@dataclass(frozen=True)
class Printed:
    """A row that a paper prints: the set it is of, and value and SD of each metric, as printed."""

    of: str
    values: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Frame:
    """What orders the tables: the targets, the methods in their order, the unit of the labels, and the baselines."""

    targets: Sequence[Target]
    methods: Sequence[str]
    unit: str
    baselines: Sequence[str] = (SUPERVISED,)


def grouped(folder: Path, frame: Frame) -> dict[tuple[str, float, str], list[dict[str, Any]]]:
    """The finished cells by target, labels and method, most labels first."""
    order = {target.name: k for k, target in enumerate(frame.targets)}
    rank = {method: k for k, method in enumerate(frame.methods)}
    found: dict[tuple[str, float, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in sorted(results(folder), key=lambda c: c["seed"]):
        found[cell["target"], cell["labels"], cell["method"]].append(cell)
    return {key: found[key] for key in sorted(found, key=lambda k: (order[k[0]], -k[1], rank[k[2]]))}


def write_table(
    folder: Path, frame: Frame, printed: Mapping[tuple[str, str, str], Printed], *, why: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Ours beside the paper's, a row for each target, amount of labels, method and metric; also as table.csv.

    The mean is over seeds of the mean over cases. `sd_cases` is the SD over test cases (mean over the seeds), empty for
    metrics of the whole set; `sd_seeds` the SD of the seeds' means, empty for one seed: two spreads that must not be
    mixed.

    Args:
        folder: the run folder.
        frame: the order.
        printed: (target, labels as `amount` says them, method) -> what the paper prints of it.
        why: target -> the reason why ours and the paper's are not comparable.
    """
    rows = []
    for (target, labels, method), cells in grouped(folder, frame).items():
        metrics = next(t.metrics for t in frame.targets if t.name == target)
        theirs = printed.get((target, amount(labels, frame.unit), method), Printed("", {}))
        for metric in metrics:
            means = [c["mean"][metric] for c in cells if metric in c["mean"]]
            if not means:
                continue
            spreads = [c["sd"][metric] for c in cells if c["sd"].get(metric) is not None]
            value, sd = theirs.values.get(metric, ("", ""))
            rows.append(
                {
                    "target": target,
                    "labels": amount(labels, frame.unit),
                    "method": method,
                    "metric": metric,
                    "mean": shown(statistics.fmean(means), metric),
                    "sd_cases": shown(statistics.fmean(spreads), metric) if spreads else "",
                    "sd_seeds": shown(statistics.stdev(means), metric) if len(means) > 1 else "",
                    "seeds": len(means),
                    "cases": cells[0]["cases"],
                    "paper": value,
                    "paper_sd": sd,
                    "paper_set": theirs.of if value else "",
                    "why_not_comparable": why[target] if value else NO_ROW,
                }
            )
    write_csv(folder / "table.csv", rows, columns=TABLE)
    return rows


def shown(value: float, metric: str) -> str:
    """A number as the tables print it: distances with two decimals, the rest with three."""
    return f"{value:.2f}" if "hausdorff" in metric else f"{value:.3f}"


def write_tests(folder: Path, frame: Frame) -> list[dict[str, Any]]:
    """Each method against supervised training and against the best of the paper's other baselines; as tests.csv.

    The test is `compare.paired` over groups (patients): the value of one is the mean over its cases and over the seeds
    that tested them with both methods. Holm's correction is over all comparisons of a target.
    """
    cells, rows = grouped(folder, frame), []
    for target in frame.targets:
        own, metric = [], _of_cases(target)
        for labels in dict.fromkeys(k[1] for k in cells if k[0] == target.name):
            there = {m: cells[key] for key in cells if key[:2] == (target.name, labels) for m in (key[2],)}
            rivals = [b for b in frame.baselines if b in there and b != SUPERVISED]
            best = max(rivals, key=lambda m: _mean(there[m], target.metric), default=None)
            for method in there:
                for against in dict.fromkeys(b for b in (SUPERVISED, best) if b in there and b is not None):
                    if method != against and method != SUPERVISED:
                        own.append(
                            {"target": target.name, "labels": amount(labels, frame.unit), "method": method,
                             "against": against, "metric": metric}
                            | _compared(folder, there[method], there[against], metric)
                        )  # fmt: skip
        own = [row for row in own if row["cases"] > 1]
        adjusted = compare.holm([row["p"] for row in own]).tolist() if own else []
        rows += [row | {"p_holm": p} for row, p in zip(own, adjusted, strict=True)]
    for row in rows:
        row |= {key: f"{row[key]:.4g}" for key in ("difference", "ci_low", "ci_high", "p", "p_holm")}
    write_csv(folder / "tests.csv", rows, columns=TESTS)
    return rows


def _of_cases(target: Target) -> str:
    """The metric of single cases that is tested, where the target's own may be one of the whole set."""
    if target.kind == "classification":
        return "correct"
    return target.metric if target.metric in ("dice", "jaccard", "hausdorff") else "dice"


def _mean(cells: Iterable[Mapping[str, Any]], metric: str) -> float:
    return statistics.fmean(c["mean"][metric] for c in cells)


def _compared(
    folder: Path, a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]], metric: str
) -> dict[str, Any]:
    """Paired comparison of two methods on the cases that both were tested on with the same seed."""
    theirs = {cell["seed"]: cell for cell in b}
    shared = [(cell, theirs[cell["seed"]]) for cell in a if cell["seed"] in theirs]
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for first, second in shared:
        values = [
            {row["id"]: row for row in read_csv(folder / "cells" / cell["folder"] / "metrics.csv")}
            for cell in (first, second)
        ]
        for name in values[0].keys() & values[1].keys():
            group = values[0][name]["group"]
            pairs[group].append((float(values[0][name][metric]), float(values[1][name][metric])))
    counts = {"cases": len(pairs), "seeds": len(shared)}
    if len(pairs) < 2:
        return counts
    means = [[statistics.fmean(p[k] for p in pairs[g]) for g in sorted(pairs)] for k in (0, 1)]
    result = compare.paired(*means)
    return counts | {
        "difference": result.difference,
        "ci_low": result.ci_low,
        "ci_high": result.ci_high,
        "p": result.p_value,
    }


def collect_cases(folder: Path) -> None:
    """Write metrics.csv: every test case of every finished cell, with the columns of all kinds of target."""
    rows = [
        {
            "target": cell["target"],
            "method": cell["method"],
            "labels": cell["labels"],
            "seed": cell["seed"],
            **row,
        }
        for cell in results(folder)
        for row in read_csv(folder / "cells" / cell["folder"] / "metrics.csv")
    ]
    columns = dict.fromkeys(key for row in rows for key in row)
    write_csv(
        folder / "metrics.csv", rows, columns=list(columns) or ["target", "method", "labels", "seed", "id"]
    )


def show(rows: list[dict[str, Any]], tests: list[dict[str, Any]], frame: Frame) -> str:
    """The tables as text for the terminal: each target's first metrics, then what the tests say."""
    lines = []
    for target in frame.targets:
        own = [row for row in rows if row["target"] == target.name]
        width = max([len(row["method"]) for row in own], default=6)
        if own:
            lines += ["", target.title, _columns("labels", "method", "metric", "ours", "paper", width)]
        for row in own:
            if row["metric"] in (target.metric, *target.metrics[:2]):
                ours = row["mean"] + (f" ± {row['sd_cases']}" if row["sd_cases"] else "")
                ours += f" (seeds ± {row['sd_seeds']})" if row["sd_seeds"] else ""
                paper = (row["paper"] or "-") + (f" ± {row['paper_sd']}" if row["paper_sd"] else "")
                metric = row["metric"].replace("_", " ")
                lines.append(_columns(row["labels"], row["method"], metric, ours, paper, width))
        lines += [_line(test) for test in tests if test["target"] == target.name]
    reasons = sorted({row["why_not_comparable"] for row in rows if row["paper"]})
    notes = ["± is the SD over test cases; (seeds ±) that of the seeds' means."]
    return "\n".join([*lines, *notes, *(f"Not comparable: {reason}" for reason in reasons)])


def _columns(labels: str, method: str, metric: str, ours: str, paper: str, width: int) -> str:
    return f"{labels:>10}  {method:<{width}}  {metric:<18} {ours:>24}   {paper}"


def _line(test: Mapping[str, Any]) -> str:
    gap, low, high, p = (float(test[key]) for key in ("difference", "ci_low", "ci_high", "p_holm"))
    return (
        f"  {test['labels']}: {test['method']} against {test['against']}: {test['metric']} {gap:+.3f} "
        f"({low:+.3f} to {high:+.3f}), p = {p:.2g} after Holm, {test['cases']} cases"
    )
