"""What the table allows to say: the baseline, the best pretext method, the paper's own, and with what certainty."""

from __future__ import annotations

from .metrics import Metric
from .run import Run, Target

Row = dict[str, str]


def findings(run: Run, target: Target) -> list[tuple[float, str]]:
    """For each amount of labels, sentences in terms of the target's metric."""
    found = []
    for labels, methods in run.rows(target).items():
        rows = {
            m: by[target.metric]
            for m, by in methods.items()
            if by.get(target.metric, {}).get("mean") not in {None, "", "nan"}
        }
        score = {method: float(row["mean"]) for method, row in rows.items()}
        ranked = target.main.best_first(rows, score)
        held = [method for method in run.baselines() if method in rows]
        others = [method for method in ranked if method not in held]
        if not others:  # the paper's other baselines are methods too, where only they were run
            held, others = held[:1], [method for method in ranked if method not in held[:1]]
        text = [f"{run.display(m)} reached {_reached(rows[m], target.main)}." for m in held]
        if others:
            best, proposed = others[0], run.config.get("proposed")
            name, other = run.display(best), "other " if len(held) > 1 else ""
            most = "lowest" if target.main.smaller else "highest"
            many = f"The {most} of {len(others)} {other}pretext methods, {name},"
            which = many if len(others) > 1 else f"Pretext learning with {name}"
            text.append(f"{which} reached {_reached(rows[best], target.main)}.")
            if held:
                rival = next(method for method in ranked if method in held)
                over = run.display(rival) if len(held) > 1 else ""
                text.append(_verdict(rows[rival], rows[best], target.main, over, len(others)))
            if proposed in others[1:]:
                own = _reached(rows[proposed], target.main)
                text.append(f"The paper's own proposal, {run.display(proposed)}, reached {own}.")
        if text:
            found.append((labels, " ".join(text)))
    return found


def _reached(row: Row, metric: Metric) -> str:
    spreads = []
    if row.get("sd_cases"):
        spreads.append(f"{_said(row['sd_cases'], metric)} between test cases")
    if row.get("sd_seeds"):
        spreads.append(f"{_said(row['sd_seeds'], metric)} between {row['seeds']} seeds")
    name = f"mean {metric.name}" if row.get("sd_cases") else metric.name
    text = f"{'an' if name[0] in 'aeiou' else 'a'} {name} of {_said(row['mean'], metric)}"
    return text + (f" (SD {', '.join(spreads)})" if spreads else "")


def _said(number: str, metric: Metric) -> str:
    return f"{float(number):.{metric.digits}f}".replace("-", "\N{MINUS SIGN}")


def _verdict(baseline: Row, best: Row, metric: Metric, over: str, tried: int) -> str:
    mine, theirs = float(best["mean"]), float(baseline["mean"])
    if mine == theirs:
        return "The two means are equal."
    side = ("higher" if mine > theirs else "lower") + (f" than {over}" if over else "")
    if metric.smaller:
        side += f" ({'better' if metric.better(mine, theirs) else 'worse'})"
    spreads = [float(row["sd_seeds"]) for row in (baseline, best) if row.get("sd_seeds")]
    if len(spreads) < 2:
        text = f"That is {side}, but a single seed cannot tell an effect from chance."
    elif abs(mine - theirs) <= max(spreads):
        text = f"That is {side}, but by no more than the means vary between seeds: no difference is shown."
    else:
        text = f"That is {side} by more than the means vary between seeds."
    if tried > 1 and metric.better(mine, theirs):
        text += " Picking the best of several also flatters it."
    return text
