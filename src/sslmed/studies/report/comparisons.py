"""The paired tests of tests.csv: rows for the table, and sentences for those a reader asks about first."""

from __future__ import annotations

import math
from typing import Any

from .cell import amount
from .metrics import metric
from .run import Run, Target

LEVEL = 0.05
FEWEST = 6  # the smallest two-sided p of n cases is 2 ** (1 - n)
MANY = 9  # sentences that a reader reads


def comparisons(run: Run, target: Target) -> dict[float, list[dict[str, Any]]]:
    """Amount of labels -> rows, most labels first."""
    found: dict[float, list[dict[str, Any]]] = {}
    for row in run.tests:
        if row.get("target") == target.name:
            found.setdefault(amount(row["labels"], run.unit), []).append(
                row | {"p_text": _p(row["p"]), "holm_text": _p(row["p_holm"])}
            )
    return {labels: found[labels] for labels in sorted(found, reverse=True)}


def sentences(run: Run, target: Target) -> list[tuple[float, list[str]]]:
    """Each test between methods that the page shows in full, in words; of very many, those at the fewest labels."""
    shown = set(run.main_methods(target)) | set(run.baselines())
    found = []
    for labels, rows in comparisons(run, target).items():
        texts = [sentence(run, row) for row in rows if row["method"] in shown and row["against"] in shown]
        if texts:
            found.append((labels, texts))
    return found if sum(len(texts) for _, texts in found) <= MANY else found[-1:]


def sentence(run: Run, row: dict[str, Any]) -> str:
    """One test in words."""
    m = metric(row["metric"])
    mine, theirs = run.display(row["method"]), run.display(row["against"])
    gap, low, high = (
        f"{float(row[key]):+.{m.digits}f}".replace("-", "\N{MINUS SIGN}")
        for key in ("difference", "ci_low", "ci_high")
    )
    p = float(row["p_holm"])
    if math.isnan(p) or p >= LEVEL:
        few = int(row["cases"]) < FEWEST
        verdict = (
            "So few cases cannot show a difference by this test."
            if few
            else "These cases show no difference."
        )
    else:
        side = "better" if m.better(float(row["difference"]), 0) else "worse"
        verdict = f"On these cases {mine} is {side}."
    seeds = f", averaged over {row['seeds']} seeds" if row["seeds"] not in {"", "1"} else ", one seed"
    return (
        f"{mine} against {theirs}: difference in {m.name} {gap} (95 % interval {low} to {high}), "
        f"{_equals(row['p_holm'])} after Holm's correction; {row['cases']} cases{seeds}. {verdict}"
    )


def _equals(text: str) -> str:
    shown = _p(text)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _p(text: str) -> str:
    """A p-value as journals print it."""
    if not text:
        return ""
    value = float(text)
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
