"""All that the template shows, gathered from the run."""

from __future__ import annotations

import string
from typing import Any

from . import cases, charts, classification, facts, views
from .comparisons import comparisons, sentences
from .findings import findings
from .metrics import METRICS, metric
from .run import Run, Target
from .splits import ALLOWED, leaking, splits


def context(run: Run) -> dict[str, Any]:
    """The template's variables."""
    found = splits(run)
    curves, parts = charts.pretext(run)
    targets = [_target(run, target, f"target-{k}") for k, target in enumerate(run.targets)]
    return {
        "run": run,
        "title": run.config.get("title") or "Run report",
        "seeds": len(run.config.get("seeds") or ()),
        "leaking": leaking(run, found),
        "splits": found,
        "allowed": ALLOWED,
        "glance": facts.glance(run, found),
        "targets": [t for t in targets if t["rows"] or t["amounts"]],
        "titles": {target.name: target.title for target in run.targets},
        "task": _task(run),
        "pretext": curves,
        "pretext_parts": parts,
        "features": views.features(run),
        "filters": views.filters(run),
        "jigsaws": views.jigsaws(run),
        "pairs": views.pairs(run),
        "words": _words(run),
        "metrics": _metrics(run),
        "arguments": _flat(run.config.get("arguments") or {}),
        "preset": _flat(run.config.get("preset") or {}),
        "duration": facts.duration,
    }


def _target(run: Run, target: Target, name: str) -> dict[str, Any]:
    """What the section of one target shows."""
    groups, rows = run.groups(target), run.rows(target)
    fewest = min(groups, default=None)
    main = run.main_methods(target)
    own = [row for row in run.table if row.get("target") == target.name]
    printed = [key for key in target.metrics if any(row["paper"] and row["metric"] == key for row in own)]
    reasons = list(
        dict.fromkeys(
            r["why_not_comparable"] for r in own if r["metric"] in printed and r["why_not_comparable"]
        )
    )
    sets = list(dict.fromkeys(r["paper_set"] for r in own if r["metric"] in printed and r["paper_set"]))
    shown: dict[str, Any] = {
        "id": name, "target": target, "title": target.title, "kind": target.kind, "metric": target.main,
        "amounts": list(groups), "fewest": fewest, "main": main,
        "some": sum(method in main for method in groups[fewest]) < len(groups[fewest]) if fewest is not None else False,
        "rows": rows, "sets": sets,
        "printed": [metric(key) for key in printed], "metrics": [metric(key) for key in target.metrics],
        "reasons": dict(zip(reasons, string.ascii_lowercase + string.ascii_uppercase, strict=False)),
        "best": {labels: _best(by, target) for labels, by in rows.items()},
        "findings": findings(run, target), "gain": charts.gain(run, target),
        "tests": comparisons(run, target), "sentences": sentences(run, target),
        "strips": {labels: found for labels in groups if (found := charts.strips(run, target, labels))},
        "tuning": {labels: charts.tuning(run, target, labels) for labels in groups},
    }  # fmt: skip
    if fewest is None:
        return shown
    if target.kind == "classification":
        return shown | {
            "told": classification.told(run, target, fewest),
            "names": classification.classes(run, target),
            "mistakes": classification.mistakes(run, target),
            "matrices": classification.matrices(run, target, fewest),
            "ranking": classification.ranking(run, target, fewest),
        }
    outlines = cases.counts(run, target)
    missed = any(
        row["silent"] or row["elsewhere"] or row["free"] for rows in outlines.values() for row in rows
    )
    return shown | {
        "told": cases.misses(run, target, fewest) if target.kind == "segmentation" else [],
        "counts": outlines if missed or target.kind == "segmentation" else {},
        "classes": cases.by_class(run, target, fewest) if target.kind == "segmentation" else None,
        "overlays": cases.overlays(run, target, fewest),
    }


def _best(methods: dict[str, dict[str, dict[str, str]]], target: Target) -> str | None:
    """The best of several methods by the target's metric, as the table prints it."""
    means = {
        m: row["mean"]
        for m, by in methods.items()
        if (row := by.get(target.metric)) and row["mean"] not in {"", "nan"}
    }
    ranked = target.main.best_first(means, {m: float(text) for m, text in means.items()})
    return means[ranked[0]] if len(ranked) > 1 else None


def _task(run: Run) -> str:
    """What the networks learned to do."""
    tasks = {
        "segmentation": "outline structures in images",
        "classification": "tell classes of images apart",
        "volumes": "outline structures in volumes",
    }
    return " and to ".join(tasks[kind] for kind in tasks if any(t.kind == kind for t in run.targets))


def _words(run: Run) -> list[tuple[str, str]]:
    """The plain descriptions of this run's methods and of the parts ("a/b+c": a, b, b+c) that they are made of."""
    used: set[str] = set()
    for name in run.config.get("methods") or ():
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
