"""All that the template shows, gathered from the run."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from ...tasks._report import Figure, Finished, Heading
from ...tasks.metrics import METRICS, metric
from ..cells import Target
from ..choice import tabulated_methods
from ..monitor import statement
from . import charts, external, facts, parts, views
from .facts import ALLOWED, leaking, splits
from .findings import comparisons, findings, sentences, without_p
from .run import Run


def context(run: Run) -> dict[str, Any]:
    """The template's variables."""
    found = splits(run)
    curves, losses = charts.pretext(run)
    monitored, monitored_rest = charts.monitored(run)
    targets = [_target(run, target, f"target-{k}") for k, target in enumerate(run.targets)]
    return {
        "run": run,
        "title": run.config.get("title") or "Run report",
        "seeds": len(run.config.get("seeds") or ()),
        "repeats": run.repeats,
        "leaking": leaking(run, found),
        "splits": found,
        "allowed": ALLOWED,
        "glance": facts.glance(run, found),
        "targets": [t for t in targets if t["rows"] or t["amounts"]],
        "titles": {target.name: target.title for target in run.targets},
        "task": _task(run),
        "pretext": curves,
        "pretext_parts": losses,
        "learned": [(t, s, said) for t, s, place in run.pretexts() if (said := statement(place))],
        "monitored": monitored,
        "monitored_rest": monitored_rest,
        "neighbours": _neighbours(run),
        "features": views.features(run),
        "filters": views.filters(run),
        "jigsaws": views.jigsaws(run),
        "pairs": views.pairs(run),
        "words": _words(run),
        "metrics": _metrics(run),
        "metric_notes": dict.fromkeys(
            note for t in targets if (note := t["metrics_note"]) and (t["rows"] or t["amounts"])
        ),
        "arguments": _flat(run.config.get("arguments") or {}),
        "preset": _flat(run.config.get("preset") or {}),
        "duration": facts.duration,
    }


def _target(run: Run, target: Target, name: str) -> dict[str, Any]:
    """What the section of one target shows."""
    groups, rows = run.groups(target), run.rows(target)
    tests = comparisons(run, target)
    fewest = min(groups, default=None)
    main, task = run.main_methods(target), run.task(target)
    own = [row for row in run.table if row.get("target") == target.name and not row.get("test_set")]
    printed = [key for key in target.metrics if any(row["paper"] and row["metric"] == key for row in own)]
    reasons = list(
        dict.fromkeys(r["why_not_comparable"] for r in own if r["metric"] in printed and r["why_not_comparable"])
    )
    sets = list(dict.fromkeys(r["paper_set"] for r in own if r["metric"] in printed and r["paper_set"]))
    remark = ""
    if fewest is not None and sum(method in main for method in groups[fewest]) < len(groups[fewest]):
        many = len(rows[fewest]) if fewest in rows else "several"
        remark = (
            f" Of {many} methods, these are the first baseline, {run.proposal} and the best by "
            f"{metric(target.metric).name}."
        )
    finished = Finished(
        groups,
        main,
        remark,
        run.display,
        run.share,
        _trainings(run),
        run.pictures(target),
    )
    blocks = (
        [*parts.blocks(run, target), *external.blocks(run, target, finished), *task.blocks(finished)] if groups else []
    )
    return {
        "id": name,
        "target": target,
        "title": target.title,
        "case": task.case,
        "metric": metric(target.metric),
        "amounts": list(groups),
        "fewest": fewest,
        "some": bool(remark),
        "blocks": blocks,
        "links": [block for block in blocks if isinstance(block, Heading) and block.anchor],
        "metrics_note": task.metrics_note,
        "headline": task.headline,
        "told": task.summary(finished) if groups else [],
        "rows": rows,
        "sets": sets,
        "printed": [metric(key) for key in printed],
        "metrics": [metric(key) for key in target.metrics],
        "reasons": dict(zip(reasons, string.ascii_lowercase + string.ascii_uppercase, strict=False)),
        "best": {labels: _best(by, target) for labels, by in rows.items()},
        "findings": findings(run, target),
        "gain": charts.gain(run, target),
        "tests": tests,
        "without_p": without_p(row for by in tests.values() for row in by),
        "p_values": sum(row.get("target") == target.name and not row.get("no_p") for row in run.tests),
        "sentences": sentences(run, target),
        "tuning": {labels: charts.tuning(run, target, labels) for labels in groups},
    }


def _neighbours(run: Run) -> dict[str, list[Figure]]:
    """Nearest neighbours of a few pretexts, of the first seed of each."""
    folders: dict[str, Path] = {}
    for title, _, folder in run.pretexts():
        folders.setdefault(title, folder)
    found = {title: views.neighbours(folder) for title, folder in list(folders.items())[: charts.MANY]}
    return {title: figures for title, figures in found.items() if figures}


def _trainings(run: Run) -> str:
    several = {f"{run.seed_word}s": len(run.config.get("seeds") or ()), "repeats": run.repeats}
    return " and ".join(word for word, count in several.items() if count > 1)


def _best(methods: dict[str, dict[str, dict[str, str]]], target: Target) -> str | None:
    """The best of several methods by the target's metric, as the table prints it."""
    means = {
        m: row["mean"] for m, by in methods.items() if (row := by.get(target.metric)) and row["mean"] not in {"", "nan"}
    }
    ranked = metric(target.metric).best_first(means, {m: float(text) for m, text in means.items()})
    return means[ranked[0]] if len(ranked) > 1 else None


def _task(run: Run) -> str:
    """What the networks learned to do."""
    return " and to ".join(dict.fromkeys(run.task(target).purpose for target in run.targets))


def _words(run: Run) -> list[tuple[str, str]]:
    """The plain descriptions of this run's methods and of the parts ("a/b+c": a, b, b+c) that they are made of."""
    used: set[str] = set()
    for name in tabulated_methods(run.config):
        for part in (name, *name.split("/")):
            pieces = part.split("+")
            used |= {"+".join(pieces[:k]) for k in range(1, len(pieces) + 1)}
    return [(name, text) for key, (name, text) in (run.config.get("words") or {}).items() if key in used]


def _metrics(run: Run) -> list[Any]:
    """Those that the tables use, with the target's own."""
    keys = dict.fromkeys(key for target in run.targets for key in (*target.metrics, target.metric))
    known = [m for m in METRICS.values() if m.key in keys]
    return [m for m in [*known, *(metric(key) for key in keys if key not in METRICS)] if m.meaning]


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as rows: {"finetune": {"epochs": 3}} -> ("finetune.epochs", 3)."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)]
    return rows
