"""sweep.html: validation results against the values of one setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import plots
from ...tasks import _report
from ...tasks._report import Figure
from ..runs import write_text
from .charts import column_name
from .environment import environment


def write_page(
    folder: Path,
    setting: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    display: Mapping[str, str],
    targets: Mapping[str, str],
    reports: Mapping[str, str],
) -> Path:
    """Render sweep.html.

    Args:
        folder: where to.
        setting: the name of what was swept.
        rows: as `sslmed.studies.sweep.compared` returns them.
        title: of the study.
        display: names to print of methods.
        targets: their titles by name.
        reports: value -> its report, relative to `folder`.

    Returns:
        Path of sweep.html, written atomically.
    """
    found = {name: [row for row in rows if row["target"] == name] for name in targets}
    sections = [
        {
            "title": targets[name],
            "rows": own,
            "columns": (measured := [key for key in own[0] if key.startswith("val_")]),
            "figures": [picture for key in measured if (picture := curve(setting, own, key, display))],
        }
        for name, own in found.items()
        if own
    ]
    page = environment().get_template("sweep.html.j2")
    shown = page.render(
        title=title, setting=setting, sections=sections, reports=reports, display=display, name=column_name
    )
    path = folder / "sweep.html"
    write_text(path, shown)
    return path


def curve(setting: str, rows: Sequence[Mapping[str, Any]], key: str, display: Mapping[str, str]) -> Figure | None:
    """A line for each method; none where the values are no numbers, or one."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        x = number(row["value"])
        if key in row and math.isfinite(x):
            lines.setdefault(display.get(row["method"], row["method"]), []).append((x, row[key]))
    values = sorted({x for points in lines.values() for x, _ in points})
    if len(values) < 2:
        return None
    wide = values[0] > 0 and values[-1] >= 8 * values[0]
    drawn = {name: (*np.array(sorted(points)).T, None) for name, points in lines.items()}
    plot = plots.label_curves(drawn, xlabel=setting, ylabel=column_name(key), log2=wide)
    return _report.figure(plot, f"{column_name(key)} against {setting}: " + ", ".join(drawn))


def number(text: str) -> float:
    """A value as a number; NaN for a word."""
    try:
        return float(text)
    except ValueError:
        return math.nan
