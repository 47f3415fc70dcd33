"""What trained networks reach on the parts of the split that they were trained and chosen on, beside the test part."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..tasks.metrics import metric
from .cells import amount
from .runs import write_csv
from .tables import Frame, Published, by_seed, grouped

FILE = "parts.csv"
PARTS = {"train": "training", "val": "validation"}  # and their names
COLUMNS = ("target", "part", "labels", "method", "metric", "mean", "sd_seeds", "seeds", "cases", "paper")


def check(parts: Sequence[str]) -> None:
    """Raise ValueError for a part that is neither "train" nor "val"."""
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"parts of a study are {' and '.join(map(repr, PARTS))}, got {unknown[0]!r}")


def write_parts(
    folder: Path,
    frame: Frame,
    parts: Sequence[str],
    published: Mapping[tuple[str, str, str, str], Published],
) -> None:
    """Write parts.csv: a row for each target, part, labels, method and metric; means as in table.csv.

    Args:
        folder: the run folder.
        frame: the order.
        parts: those that were measured.
        published: (target, part, labels as `amount` words them, method) -> what the paper publishes of it.
    """
    rows: list[dict[str, Any]] = []
    for (target, labels, method), cells in grouped(folder, frame).items():
        for part in parts:
            found = [one for cell in cells if (one := cell.in_part(part)) is not None]
            theirs = published.get((target, part, amount(labels, frame.unit), method))
            for key in next(t.metrics for t in frame.targets if t.name == target):
                means = [statistics.fmean(values) for values in by_seed(found, key)]
                if not means:
                    continue
                shown = metric(key).shown
                rows.append(
                    {
                        "target": target,
                        "part": part,
                        "labels": amount(labels, frame.unit),
                        "method": method,
                        "metric": key,
                        "mean": shown(statistics.fmean(means)),
                        "sd_seeds": shown(statistics.stdev(means)) if len(means) > 1 else "",
                        "seeds": len(means),
                        "cases": found[0].cases,
                        "paper": theirs.values.get(key, ("", ""))[0] if theirs else "",
                    }
                )
    write_csv(folder / FILE, rows, columns=COLUMNS)
