"""The page of a pretraining run: whether it learned, its curves, its views, and nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import plots
from ...tasks import _report
from ...tasks._report import Figure
from .. import monitor
from ..results import columns
from ..runs import read_json
from . import charts, views
from .run import Run

_NAMES = {"loss": "loss", "feature_std": "spread of the features (SD)"}


def pretrained(run: Run) -> dict[str, Any]:
    """What pretraining.html.j2 shows."""
    check = run.folder / "check.json"
    return {
        "title": run.config["title"],
        "run": run,
        "check": read_json(check) if check.exists() else None,
        "curves": _curves(run),
        "views": views.pairs(run, shown=6),
        "monitored": _monitored(run),
        "neighbours": views.neighbours(run.folder),
        "settings": run.config["settings"],
        "data": run.config["data"],
    }


def _curves(run: Run) -> list[Figure]:
    found, held = [], columns(run.folder / "curves.csv")
    for column, label in _NAMES.items():
        points = [
            (epoch + 1, value)
            for epoch, value in zip(held.get("epoch", ()), held.get(column, ()), strict=False)
            if value == value
        ]
        if points:
            epochs, values = (list(numbers) for numbers in zip(*points, strict=True))
            ylim = None if column == "loss" else (0.0, 1.1 * max(values))
            figure = plots.curve_panels({label: {"": (epochs, values)}}, ylabel=label, ylim=ylim)
            found.append(_report.figure(figure, f"{label} by epoch"))
    return found


def _monitored(run: Run) -> Figure | None:
    """A panel for each value that was measured of the encoder."""
    values = columns(run.folder / monitor.ROWS)
    panels = {
        name: {"": (values["epoch"], values[column])}
        for column, name in charts.MONITORED.items()
        if np.isfinite(values.get(column, [])).any()
    }
    if not panels:
        return None
    figure = plots.curve_panels(panels, ylabel="")
    return _report.figure(figure, "by epoch: " + ", ".join(panels), wide=True)
