"""The tables in words: the best methods, how certain that is, and the paired tests."""

from __future__ import annotations

import math
from typing import Any

from ...tasks.metrics import Metric, metric
from ..cells import Target, amount_as_number
from .run import Run

Row = dict[str, str]
LEVEL = 0.05
FEWEST = 6  # the smallest two-sided p of n cases is 2 ** (1 - n)
MANY = 9  # sentences on the page


def findings(run: Run, target: Target) -> list[tuple[float, str]]:
    """For each amount of labels, sentences in terms of the target's metric."""
    found, main = [], metric(target.metric)
    for labels, methods in run.rows(target).items():
        rows = {
            m: by[target.metric]
            for m, by in methods.items()
            if by.get(target.metric, {}).get("mean") not in {None, "", "nan"}
        }
        score = {method: float(row["mean"]) for method, row in rows.items()}
        ranked = main.best_first(rows, score)
        held = [method for method in run.baselines() if method in rows]
        others = [method for method in ranked if method not in held]
        if not others:  # the paper's other baselines are methods too, where only they were run
            held, others = held[:1], [method for method in ranked if method not in held[:1]]
        text = [f"{run.display(m)} reached {_reached(rows[m], main)}." for m in held]
        if others:
            best, proposed = others[0], run.config.get("proposed")
            name, other = run.display(best), "other " if len(held) > 1 else ""
            most = "lowest" if main.smaller else "highest"
            many = f"The {most} of {len(others)} {other}pretext methods, {name},"
            which = many if len(others) > 1 else f"Pretext learning with {name}"
            text.append(f"{which} reached {_reached(rows[best], main)}.")
            if held:
                rival = next(method for method in ranked if method in held)
                over = run.display(rival) if len(held) > 1 else ""
                text.append(_verdict(rows[rival], rows[best], main, over, len(others)))
            if proposed in others[1:]:
                own = _reached(rows[proposed], main)
                text.append(f"The paper's own proposal, {run.display(proposed)}, reached {own}.")
        if text:
            found.append((labels, " ".join(text)))
    return found


def _reached(row: Row, metric: Metric) -> str:
    spreads = []
    if row.get("sd_cases"):
        spreads.append(f"{_number(row['sd_cases'], metric)} between test cases")
    if row.get("sd_seeds"):
        spreads.append(f"{_number(row['sd_seeds'], metric)} between {row['seeds']} seeds")
    if row.get("sd_repeats"):
        spreads.append(f"{_number(row['sd_repeats'], metric)} between {row['repeats']} repeats of the fine-tuning")
    name = f"mean {metric.name}" if row.get("sd_cases") else metric.name
    text = f"{'an' if name[0] in 'aeiou' else 'a'} {name} of {_number(row['mean'], metric)}"
    return text + (f" (SD {', '.join(spreads)})" if spreads else "")


def _number(number: str, metric: Metric) -> str:
    return f"{float(number):.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")


def _verdict(baseline: Row, best: Row, metric: Metric, over: str, tried: int) -> str:
    mine, theirs = float(best["mean"]), float(baseline["mean"])
    if mine == theirs:
        return "The two means are equal."
    side = ("higher" if mine > theirs else "lower") + (f" than {over}" if over else "")
    if metric.smaller:
        side += f" ({'better' if metric.better(mine, theirs) else 'worse'})"
    word = "seeds"
    spreads = [float(row["sd_seeds"]) for row in (baseline, best) if row.get("sd_seeds")]
    if len(spreads) < 2:
        word = "repeats on one split"
        spreads = [float(row["sd_repeats"]) for row in (baseline, best) if row.get("sd_repeats")]
    if len(spreads) < 2:
        text = f"That is {side}, but a single seed cannot tell an effect from chance."
    elif abs(mine - theirs) <= max(spreads):
        text = f"That is {side}, but by no more than the means vary between {word}: no difference is shown."
    else:
        text = f"That is {side} by more than the means vary between {word}."
    if tried > 1 and metric.better(mine, theirs):
        text += " The best of several results is also an optimistic estimate."
    return text


def comparisons(run: Run, target: Target, test_set: str = "") -> dict[float, list[dict[str, Any]]]:
    """Paired tests on a test set: amount of labels -> rows, most labels first."""
    found: dict[float, list[dict[str, Any]]] = {}
    for row in run.tests:
        if row.get("target") == target.name and (row.get("test_set") or "") == test_set:
            found.setdefault(amount_as_number(row["labels"], run.unit), []).append(
                row | {"p_text": _p(row["p"]), "holm_text": _p(row["p_holm"])}
            )
    return {labels: found[labels] for labels in sorted(found, reverse=True)}


def sentences(run: Run, target: Target) -> list[tuple[float, list[str]]]:
    """Each test between methods that the page shows in full, in words; of many, only those at the fewest labels."""
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
        f"{float(row[key]):+.{m.digits}f}".replace("-", "\N{MINUS SIGN}") for key in ("difference", "ci_low", "ci_high")
    )
    p = float(row["p_holm"])
    if math.isnan(p) or p >= LEVEL:
        few = int(row["cases"]) < FEWEST
        verdict = "So few cases cannot show a difference by this test." if few else "These cases show no difference."
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
