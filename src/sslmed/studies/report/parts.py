"""Results on the training and validation part beside those on the test part."""

from __future__ import annotations

from ...tasks._report import Block, Entry, Heading, Table, Text
from ...tasks.metrics import Metric, metric
from ..cells import Target, amount_as_number
from ..parts import FILE, PARTS
from ..results import csv_rows
from .run import Run

DASH = "\N{EN DASH}"


def blocks(run: Run, target: Target) -> list[Block]:
    """The section; empty where no such part was measured."""
    found: dict[tuple[float, str, str], dict[str, dict[str, str]]] = {}
    for row in csv_rows(run.folder / FILE):
        if row["target"] == target.name:
            key = (amount_as_number(row["labels"], run.unit), row["method"], row["part"])
            found.setdefault(key, {})[row["metric"]] = row
    if not found:
        return []
    printed = any(row["paper"] for by in found.values() for row in by.values())
    metrics = [metric(key) for key in target.metrics]
    groups: dict[str, list[list[Entry]]] = {}
    for labels, methods in run.rows(target).items():
        for method, tested in methods.items():
            parts = {name: found.get((labels, method, part), {}) for part, name in PARTS.items()} | {"test": tested}
            for name, by in parts.items():
                if by:
                    entries = [_entry(by.get(m.key), m) for m in metrics]
                    groups.setdefault(run.share(labels), []).append([f"{run.display(method)}, {name}", *entries])
    return [
        Heading("Training and validation part", "parts"),
        Text(
            "The tested networks on the labelled cases that they were trained on, and on the validation part, which "
            "chose their epoch. A training part that is far ahead of the test part shows overfitting. Only the test "
            "part says what a network reaches on new cases."
            + (" Below: the paper's numbers, which are not comparable with ours, as above." if printed else "")
        ),
        Table(["Method, part", *(m.short for m in metrics)], groups, below=True),
    ]


def _entry(row: dict[str, str] | None, of: Metric) -> Entry:
    if not row or not row["mean"]:
        return DASH
    ours = f"{float(row['mean']):.{of.digits}f}".replace("-", "\N{MINUS SIGN}")
    return (ours, f"paper {row['paper']}") if row.get("paper") else ours
