"""outlook.json: what each method of a run reached with how many outlines, and what more of them would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from ..tasks.metrics import metric
from .choice import tabulated, tabulated_methods
from .learning_curve import Outlook, outlook
from .results import Result
from .runs import read_json, write_json

OUTLOOK = "outlook.json"
MORE = 50  # outlines


def write_outlook(run: Path) -> dict[str, Any]:
    """Write `outlook.json` of a finished run whose networks learned from several amounts of outlines.

    Args:
        run: the run folder.

    Returns:
        Its content: the metric, and each method with a curve, the expected gain and a sentence; empty where the run has
        one amount of labels, and then no file is written.
    """
    config = read_json(run / "config.json")
    display, (target, *_) = config.get("display", {}), config["targets"]
    curves = {}
    for method in tabulated_methods(config):
        cells = [one for one in tabulated(run) if (one.method, one.target) == (method, target["name"])]
        tests = _tests(cells, target["metric"])
        if len(tests) > 1:
            found = outlook(tests, more=MORE)
            words = sentence(found, display.get(method, method), metric(target["metric"]).name)
            curves[method] = asdict(found) | {"sentence": words}
    if not curves:
        return {}
    content = {"metric": target["metric"], "methods": curves}
    write_json(run / OUTLOOK, content)
    return content


def _tests(cells: Sequence[Result], key: str) -> dict[int, list[dict[str, list[float]]]]:
    """Number of outlined images -> each training's scores by patient, of the trainings that all amounts have."""
    amounts = sorted({cell.labels for cell in cells})
    trained = [{(cell.seed, cell.repeat): cell for cell in cells if cell.labels == labels} for labels in amounts]
    common = sorted(set.intersection(*(set(ran) for ran in trained))) if trained else []
    found = {}
    for ran in trained if common else ():
        own = [ran[one] for one in common]
        outlines = round(fmean(cell.summary.get("trained_cases", cell.summary["labelled_cases"]) for cell in own))
        found[outlines] = [_of_patients(cell, key) for cell in own]
    return found


def _of_patients(cell: Result, key: str) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for row in cell.rows:
        if row.get(key):
            scores.setdefault(row["group"], []).append(float(row[key]))
    return scores


def sentence(found: Outlook, method: str, name: str) -> str:
    """An outlook in words.

    Example:
        >>> from sslmed.studies.learning_curve import Point
        >>> points = (Point(20, 0.6, 0.5, 0.7), Point(40, 0.7, 0.65, 0.75))
        >>> sentence(Outlook(points, 50, 40, 0.02, 0.0, 0.05), "Baseline", "Dice")[:80]
        'Baseline: 40 more outlined images than 40 would raise the Dice of 0.700 by about'
    """
    last = found.points[-1]
    start = f"{method}: "
    capped = (
        f" The question was for {found.asked} more; beyond twice the largest amount no answer is given."
        if found.more < found.asked
        else ""
    )
    if found.gain is None:
        return f"{start}what more outlined images would bring cannot be said: {found.why_not}."
    return (
        f"{start}{found.more} more outlined images than {last.outlines} would raise the {name} of {last.mean:.3f} by "
        f"about {found.gain:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}).{capped}"
    )
