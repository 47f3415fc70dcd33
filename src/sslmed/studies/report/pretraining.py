"""The page of a pretraining run: whether it learned, its curves, its views, and nearest neighbours."""

from __future__ import annotations

from typing import Any

from ... import plots
from ..runs import read_csv, read_json
from . import drawing
from .run import Run

_NAMES = {"loss": "loss", "feature_std": "spread of the features (SD)"}


def pretrained(run: Run) -> dict[str, Any]:
    """What pretraining.html.j2 shows."""
    check = run.folder / "check.json"
    galleries = run.galleries()
    return {
        "title": run.config["title"],
        "run": run,
        "check": read_json(check) if check.exists() else None,
        "curves": _curves(run),
        "views": _views(galleries),
        "neighbours": _neighbours(galleries),
        "settings": run.config["settings"],
        "data": run.config["data"],
    }


def _curves(run: Run) -> list[drawing.Picture]:
    file = run.folder / "curves.csv"
    rows = read_csv(file) if file.exists() else []
    found = []
    for column, label in _NAMES.items():
        values = [float(row[column]) for row in rows if row.get(column)]
        if values:
            epochs = [int(row["epoch"]) + 1 for row in rows if row.get(column)]
            ylim = None if column == "loss" else (0.0, 1.1 * max(values))
            figure = plots.curve_panels({label: {"": (epochs, values)}}, ylabel=label, ylim=ylim)
            found.append(drawing.picture(figure, f"{label} by epoch"))
    return found


def _views(z: dict[str, Any]) -> drawing.Picture | None:
    if not z.keys() >= {"original", "view0", "view1"}:
        return None
    first, second, third = map(str, z["captions"])
    figure = plots.view_gallery(z["original"], z["view0"], z["view1"], heads=(first, second, third))
    return drawing.picture(figure, "images and two views of each")


def _neighbours(z: dict[str, Any]) -> drawing.Picture | None:
    if "neighbours" not in z:
        return None
    figure = plots.neighbour_gallery(z["queries"], z["neighbours"])
    return drawing.picture(figure, "held-out images and the training images nearest to them")
