"""The picture of a sweep: time per unit against each axis, of this version, an earlier one, and the peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OURS = "#1b6ca8"
PEERS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7b4f9d", "#5b6776", "#8c564b")


def draw(content: dict[str, Any], path: Path, *, unit: str, before: Path | None = None) -> None:
    """Draw each job of a sweep in a row, each axis in a field.

    Args:
        content: `jobs` by title, axis and point: the number of `pairs` (or pixels) and the times of all `ways`.
        path: of the picture.
        unit: what the times are divided to, as "ns per pair".
        before: a result of the same sweep with an earlier version, whose own times are drawn too.
    """
    from matplotlib.figure import Figure

    earlier = json.loads(before.read_text())["jobs"] if before else {}
    jobs = content["jobs"]
    wide = max(len(tables) for tables in jobs.values())
    figure = Figure(figsize=(3.4 * wide, 2.6 * len(jobs)), layout="constrained")
    grid = figure.subplots(len(jobs), wide, squeeze=False)
    for row, (title, tables) in zip(grid, jobs.items(), strict=True):
        for axes, (axis, table) in zip(row, tables.items(), strict=False):
            old = earlier.get(title, {}).get(axis, {})
            peers = sorted({name for point in table.values() for name in point["ways"]} - {"sslmed"})
            for number, name in enumerate(peers):
                style = {"marker": ".", "linewidth": 0.8, "color": PEERS[number % len(PEERS)]}
                _line(axes, table, name, label=name, **style)
            _line(axes, table, "sslmed", label="sslmed", marker="o", linewidth=2, color=OURS)
            if old:
                known = {place: old[place] for place in map(str, table) if place in old}
                _line(axes, known, "sslmed", label="sslmed before", linestyle=":", linewidth=1.5, color=OURS)
            axes.set_xticks(range(len(table)), list(table), rotation=90, fontsize=7)
            axes.set(yscale="log", xlabel=axis)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_title(title, loc="left", fontsize=10)
        row[0].set_ylabel(unit, fontsize=8)
        row[0].legend(fontsize=6, frameon=False)
        for axes in row[len(tables) :]:
            axes.set_axis_off()
    figure.suptitle(f"{content['machine']}, threads: {content['threads']}", fontsize=10)
    figure.savefig(path, dpi=80)


def _line(axes: Any, table: dict[Any, Any], name: str, **style: Any) -> None:
    known = [
        (i, point["ways"][name]["median_ms"] * 1e6 / point["pairs"])
        for i, point in enumerate(table.values())
        if name in point["ways"]
    ]
    axes.plot(*zip(*known, strict=True), **style)
