"""The page of a pretraining run: whether it learned, its curves, its views, and nearest neighbours."""

from __future__ import annotations

from typing import Any

from ... import plots
from ...tasks import _report
from ...tasks._report import Figure
from ..results import columns
from ..runs import read_json
from . import views
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
        "neighbours": _neighbours(run.galleries()),
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


def _neighbours(z: dict[str, Any]) -> Figure | None:
    if "neighbours" not in z:
        return None
    figure = plots.neighbour_gallery(z["queries"], z["neighbours"])
    return _report.figure(figure, "held-out images and the training images nearest to them")
