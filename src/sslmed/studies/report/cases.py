"""Segmentation case by case: missed and false outlines, Dice by class, and overlays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import plots
from . import drawing
from .cell import Cell, arrays
from .drawing import Picture
from .run import Run, Target


def counts(run: Run, target: Target) -> dict[float, list[dict[str, Any]]]:
    """Missed and false outlines by amount of labels and method, added over the seeds."""
    found: dict[float, list[dict[str, Any]]] = {}
    for labels, methods in run.groups(target).items():
        for method, cells in methods.items():
            each = [cell.empty() for cell in cells if cell.cases]
            if each:
                total = {key: sum(one[key] for one in each) for key in each[0]}
                found.setdefault(labels, []).append({"method": method, "seeds": len(each), **total})
    return found


def misses(run: Run, target: Target, labels: float) -> list[tuple[str, str]]:
    """The same in words, of the methods that the page shows in full."""
    shown = run.main_methods(target)
    texts = []
    for row in counts(run, target).get(labels, []):
        if row["method"] not in shown:
            continue
        unit = target.unit
        text = f"no outline at all in {row['silent']} of {row['filled']} {unit} with a reference outline"
        if row["elsewhere"]:
            text += f", an outline wholly beside it in {row['elsewhere']}"
        if row["free"]:
            text += f", and an outline in {row['alarm']} of {row['free']} {unit} without one"
        texts.append((run.display(row["method"]), text))
    return texts


def by_class(run: Run, target: Target, labels: float) -> dict[str, Any] | None:
    """Median and quartiles of Dice by class, of the methods that the page shows in full."""
    rows = []
    for method in run.main_methods(target):
        values: dict[str, list[float]] = {}
        for cell in run.groups(target)[labels].get(method, []):
            for case in cell.cases:
                values.setdefault(case.get("label", ""), []).append(float(case["dice"]))
        if set(values) - {""}:
            quartiles = {
                name: [len(v), *(f"{q:.3f}" for q in np.quantile(v, [0.5, 0.25, 0.75]))]
                for name, v in values.items()
            }
            rows.append({"method": method, "classes": quartiles})
    names = sorted({name for row in rows for name in row["classes"]})
    return {"names": names, "rows": rows} if rows else None


def overlays(run: Run, target: Target, labels: float) -> list[dict[str, Any]]:
    """Pictures of the first seed of each method that the page shows in full."""
    found = []
    for method in run.main_methods(target):
        for cell in run.groups(target)[labels].get(method, [])[:1]:
            pictures = _tiers(run, cell)
            if pictures:
                found.append({"method": method, "seed": cell.seed, "pictures": pictures})
    return found


def _tiers(run: Run, cell: Cell) -> list[Picture]:
    """Two best, two middle and two worst cases of a cell; then the other kept ones."""
    z = arrays(cell.folder / "cases.npz")
    if not z or not len(z["id"]):
        return []
    tiers = [str(tier) for tier in z["tier"]]
    first, rest = [], []
    for tier in dict.fromkeys(tiers):
        members = sorted((i for i, t in enumerate(tiers) if t == tier), key=lambda i: -float(z["dice"][i]))
        cut = slice(-2, None) if tier == "worst" else slice(0, 2)
        first += members[cut]
        rest += [i for i in members if i not in members[cut]]
    return [_drawn(run, cell, z, chosen) for chosen in (first, rest) if chosen]


def _drawn(run: Run, cell: Cell, z: dict[str, Any], chosen: list[int]) -> Picture:
    rows = {case["id"]: case for case in cell.cases}
    titles, captions = [], []
    for i in chosen:
        name, dice, tier = str(z["id"][i]), f"{float(z['dice'][i]):.3f}", str(z["tier"][i])
        distance = rows.get(name, {}).get("hausdorff")
        far = f"\nHD {float(distance):.1f} px" if distance else ""
        titles.append(f"{tier}\n{name}\nDice {dice}{far}")
        captions.append(f"{name} ({tier}, Dice {dice})")
    images, targets, preds = (list(z[key][chosen]) for key in ("image", "target", "pred"))
    figure = plots.overlay_grid(images, targets, preds, titles)
    alt = (
        f"{run.display(cell.method)}: image, ground truth, prediction and overlay of {len(chosen)} test cases"
    )
    return drawing.picture(figure, alt, caption="From top: " + "; ".join(captions) + ".", dpi=100)
