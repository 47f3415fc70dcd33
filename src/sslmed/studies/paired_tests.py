"""Paired tests between methods, over the test cases that both were tested on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..metrics import compare
from ..tasks.metrics import case_metric, metric
from .cells import SUPERVISED, Target, amount
from .results import Result
from .runs import write_csv
from .tables import Frame, by_seed, grouped

TESTS = (
    "target",
    "test_set",
    "labels",
    "method",
    "against",
    "metric",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "no_p",
    "cases",
    "seeds",
)
SMOKE = "a smoke run: too short to compare methods"


def write_tests(folder: Path, frame: Frame) -> list[dict[str, Any]]:
    """Each method against supervised training and against the best of the paper's other baselines; as tests.csv.

    The test is `compare.paired` over groups (patients): the value of one is the mean over its cases and over the seeds
    that tested them with both methods; the repeats of a seed count as one, by their mean. A smoke run and a single
    training of a method give no p-value; `no_p` is then the reason. Holm's correction is over all p-values of a
    target, on all test sets.
    """
    found = {test_set: grouped(folder, frame, test_set) for test_set in frame.tested}
    rows: list[dict[str, Any]] = []
    for target in frame.targets:
        own = [
            {"target": target.name, "test_set": test_set} | row
            for test_set, cells in found.items()
            for row in _comparisons(cells, target, frame)
            if row["cases"] > 1
        ]
        tested = [row for row in own if not row["no_p"]]
        adjusted = compare.holm([row["p"] for row in tested]).tolist() if tested else []
        for row, p in zip(tested, adjusted, strict=True):
            row["p_holm"] = p
        rows += own
    for row in rows:
        printed = ("difference", "ci_low", "ci_high", *(() if row["no_p"] else ("p", "p_holm")))
        row |= dict.fromkeys(("p", "p_holm"), "") | {key: f"{row[key]:.4g}" for key in printed}
    write_csv(folder / "tests.csv", rows, columns=TESTS)
    return rows


def _comparisons(
    cells: Mapping[tuple[str, float, str], list[Result]], target: Target, frame: Frame
) -> list[dict[str, Any]]:
    """The comparisons of a target on one test set, before Holm's correction."""
    rows, tested, main = [], case_metric(target.metric, target.kind).key, metric(target.metric)
    for labels in dict.fromkeys(k[1] for k in cells if k[0] == target.name):
        there = {m: cells[key] for key in cells if key[:2] == (target.name, labels) for m in (key[2],)}
        rivals = [b for b in frame.baselines if b in there and b != SUPERVISED]
        best = main.best_first(rivals, {m: _mean(there[m], main.key) for m in rivals})[:1]
        for method in there:
            for against in dict.fromkeys(b for b in (SUPERVISED, *best) if b in there):
                if method != against and method != SUPERVISED:
                    named = {"labels": amount(labels, frame.unit), "method": method, "against": against}
                    compared = _compared(there[method], there[against], tested, frame)
                    rows.append(named | {"metric": tested} | compared)
    return rows


def _mean(cells: Iterable[Result], key: str) -> float:
    values = [statistics.fmean(repeats) for repeats in by_seed(cells, key)]
    return statistics.fmean(values) if values else float("nan")


def _compared(a: Sequence[Result], b: Sequence[Result], key: str, frame: Frame) -> dict[str, Any]:
    """Paired comparison of two methods on the cases that both were tested on with the same seed."""
    mine, theirs = _values(a, key), _values(b, key)
    both = mine.merge(theirs, on=["seed", "id"], suffixes=("", "_other"))
    pairs = both.groupby("group")[["value", "value_other"]].agg(statistics.fmean)
    seeds = {cell.seed for cell in a} & {cell.seed for cell in b}
    trainings = min(sum(cell.seed in seeds for cell in cells) for cells in (a, b))
    counts = {"cases": len(pairs), "seeds": len(seeds), "no_p": _no_p(frame, trainings)}
    if len(pairs) < 2:
        return counts
    # Metrics are computed in float32: differences that only its rounding tells apart are ties.
    result = compare.paired(*(pairs[name].to_numpy(np.float32) for name in ("value", "value_other")))
    return counts | {
        "difference": result.difference,
        "ci_low": result.ci_low,
        "ci_high": result.ci_high,
        "p": result.p_value,
    }


def _no_p(frame: Frame, trainings: int) -> str:
    """Why there is no p-value where the cases were tested by so many trainings of each method; "" where there is."""
    if frame.smoke:
        return SMOKE
    return "" if trainings > 1 else f"one {frame.seed_word}: a difference may be that of one training"


def _values(cells: Sequence[Result], key: str) -> pd.DataFrame:
    """One metric of the test cases of each seed, with their ids and groups: of several repeats, their mean."""
    parts = []
    for cell in cells:
        found = pd.DataFrame(cell.rows, columns=["id", "group", key]).rename(columns={key: "value"})
        parts.append(found.assign(value=found["value"].astype(float), seed=cell.seed))
    joined = pd.concat(parts)
    return joined.groupby(["seed", "id", "group"], as_index=False, sort=False, dropna=False)["value"].mean()
