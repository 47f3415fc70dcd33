"""The tables in words: the best methods, how certain that is, and the paired tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

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
        choice = run.config.get("choice")
        others = [method for method in ranked if method not in (*held, choice)]
        if not others:  # other baselines are methods too, where only they were run
            held, others = held[:1], [method for method in ranked if method not in (*held[:1], choice)]
        text = [f"{run.display(m)} reached {_reached(run, rows[m], main)}." for m in held]
        if others:
            best, proposed = others[0], run.config.get("proposed")
            name, other = run.display(best), "other " if held else ""
            most = "lowest" if main.smaller else "highest"
            which = f"The {most} of {len(others)} {other}methods, {name}," if len(others) > 1 else name
            text.append(f"{which} reached {_reached(run, rows[best], main)}.")
            if held:
                rival = next(method for method in ranked if method in held)
                over = run.display(rival) if len(held) > 1 else ""
                test = _test(run, target, labels, best, rival)
                text.append(_verdict(run, rows[rival], rows[best], main, over, len(others), test))
            if proposed in others[1:]:
                own = _reached(run, rows[proposed], main)
                text.append(f"T{run.proposal[1:]}, {run.display(proposed)}, reached {own}.")
        if held and choice in rows:
            test = _test(run, target, labels, choice, held[0])
            text.append(f"{run.display(choice)} ({_chosen(run, target, labels)}): {_reached(run, rows[choice], main)}.")
            text.append(_verdict(run, rows[held[0]], rows[choice], main, run.display(held[0]), 1, test))
        if text:
            found.append((labels, " ".join(text)))
    return found


def _reached(run: Run, row: Row, metric: Metric) -> str:
    spreads = []
    if row.get("sd_cases"):
        spreads.append(f"{_number(row['sd_cases'], metric)} between test cases")
    if row.get("sd_seeds"):
        spreads.append(f"{_number(row['sd_seeds'], metric)} between {row['seeds']} {run.seed_word}s")
    if row.get("sd_repeats"):
        spreads.append(f"{_number(row['sd_repeats'], metric)} between {row['repeats']} repeats of the fine-tuning")
    name = f"mean {metric.name}" if row.get("sd_cases") else metric.name
    text = f"{'an' if name[0] in 'aeiou' else 'a'} {name} of {_number(row['mean'], metric)}"
    return text + (f" (SD {', '.join(spreads)})" if spreads else "")


def _chosen(run: Run, target: Target, labels: float) -> str:
    """How often each method was the choice, as "Baseline in 1 of 4 folds"."""
    choice = run.config["choice"]
    cells = run.groups(target)[labels][choice]
    methods = {cell.folder: cell.method for cell in run.cells if cell.method != choice}
    counts = Counter(run.display(methods[cell.folder]) for cell in cells)
    word = "trainings" if run.repeats > 1 else f"{run.seed_word}s"
    return ", ".join(f"{name} in {count} of {len(cells)} {word}" for name, count in counts.items())


def _number(number: str, metric: Metric) -> str:
    return f"{float(number):.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")


def _test(run: Run, target: Target, labels: float, method: str, against: str) -> Row:
    """The paired test of two methods on the usual test part; empty where they were not compared."""
    rows = comparisons(run, target).get(labels, ())
    return next((row for row in rows if (row["method"], row["against"]) == (method, against)), {})


def _verdict(run: Run, baseline: Row, best: Row, metric: Metric, over: str, tried: int, test: Row) -> str:
    """How two means differ; folds have their own cases, so that their means vary for both methods alike."""
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
    if test.get("no_p"):
        text = f"That is {side}, without a p-value ({test['no_p']})."
    elif run.folds is not None:
        tested = f" ({_tested(test)})" if test else ""
        text = f"That is {side}{tested}."
    elif len(spreads) < 2:
        text = f"That is {side}, but a single seed cannot tell an effect from chance."
    elif abs(mine - theirs) <= max(spreads):
        text = f"That is {side}, but by no more than the means vary between {word}: no difference is shown."
    else:
        text = f"That is {side} by more than the means vary between {word}."
    if tried > 1 and metric.better(mine, theirs):
        text += " The best of several results is also an optimistic estimate."
    return text


def _tested(test: Row) -> str:
    return f"{metric(test['metric']).name} case by case: {_equals(test['p_holm'])} after Holm's correction"


def comparisons(run: Run, target: Target, test_set: str = "") -> dict[float, list[Row]]:
    """Paired tests on a test set: amount of labels -> rows, most labels first."""
    found: dict[float, list[Row]] = {}
    for row in run.tests:
        if row.get("target") == target.name and (row.get("test_set") or "") == test_set:
            found.setdefault(amount_as_number(row["labels"], run.unit), []).append(
                {"no_p": ""} | row | {"p_text": _p(row["p"]), "holm_text": _p(row["p_holm"])}
            )
    return {labels: found[labels] for labels in sorted(found, reverse=True)}


def without_p(rows: Iterable[Row]) -> str:
    """A sentence on the comparisons that have no p-value; "" where all have one."""
    reasons = dict.fromkeys(row["no_p"] for row in rows if row.get("no_p"))
    return f"A dash: no p-value ({'; '.join(reasons)})." if reasons else ""


def sentences(run: Run, target: Target) -> list[tuple[float, list[str]]]:
    """Each test between methods that the page shows in full, in words; of many, only those at the fewest labels."""
    shown = set(run.main_methods(target)) | set(run.baselines())
    found = []
    for labels, rows in comparisons(run, target).items():
        texts = [sentence(run, row) for row in rows if row["method"] in shown and row["against"] in shown]
        if texts:
            found.append((labels, texts))
    return found if sum(len(texts) for _, texts in found) <= MANY else found[-1:]


def sentence(run: Run, row: Row) -> str:
    """One test in words."""
    m = metric(row["metric"])
    mine, theirs = run.display(row["method"]), run.display(row["against"])
    gap, low, high = (
        f"{float(row[key]):+.{m.digits}f}".replace("-", "\N{MINUS SIGN}") for key in ("difference", "ci_low", "ci_high")
    )
    tested = "" if row["no_p"] else f", {_equals(row['p_holm'])} after Holm's correction"
    if row["no_p"]:
        verdict = f"No p-value ({row['no_p']})."
    elif math.isnan(p := float(row["p_holm"])) or p >= LEVEL:
        few = int(row["cases"]) < FEWEST
        verdict = "So few cases cannot show a difference by this test." if few else "These cases show no difference."
    else:
        side = "better" if m.better(float(row["difference"]), 0) else "worse"
        verdict = f"On these cases {mine} is {side}."
    over = f"averaged over {row['seeds']} seeds" if run.folds is None else f"each tested in one of {row['seeds']} folds"
    seeds = over if row["seeds"] not in {"", "1"} else f"one {run.seed_word}"
    return (
        f"{mine} against {theirs}: difference in {m.name} {gap} (95 % interval {low} to {high}){tested}; "
        f"{row['cases']} cases, {seeds}. {verdict}"
    )


def _equals(text: str) -> str:
    shown = _p(text)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _p(text: str) -> str:
    """A p-value as journals print it, a dash for none."""
    if not text:
        return "\N{EN DASH}"
    value = float(text)
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
