"""The report's pictures, each as a PNG in a data URI with the text that stands for it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.report_folder import SUPERVISED, Cell, Curve, Run, arrays, display
from sslmed import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {
    "dice": ("Dice", (0.0, 1.0)),
    "hausdorff": ("Hausdorff distance (pixels)", None),
    "precision": ("precision (positive predictive value)", (0.0, 1.0)),
    "recall": ("recall (sensitivity)", (0.0, 1.0)),
}
SHOWN = 3  # images in a gallery
_COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_dice": "validation Dice",
    "loss": "total loss",
    "image_level": "image-level loss",
    "patch_level": "patch-level loss",
    "perceptual": "perceptual loss",
    "feature_sd": "spread of descriptions",
}


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page."""

    uri: str
    alt: str
    caption: str = ""


def picture(figure: Figure, alt: str, *, caption: str = "", dpi: float = 110) -> Picture:
    """Draw `figure` as a PNG in a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt, caption)


def strips(run: Run, percent: str) -> list[Picture]:
    """Every test case of every method at one share of the labels, a picture for each metric."""
    found = []
    for metric, (label, limits) in METRICS.items():
        values = {
            display(method): np.concatenate([cell.values(metric) for cell in cells])
            for method, cells in run.groups[percent].items()
            if any(cell.cases for cell in cells)
        }
        if values:
            figure = plots.metric_strip(values, xlabel=label, xlim=limits)
            found.append(picture(figure, f"{label} of every test case with {percent} % of the labels"))
    return found


def tuning(run: Run, percent: str) -> list[Picture]:
    """Fine-tuning curves at one share of the labels; with many methods, a row of pictures for each jigsaw."""
    found = run.tuning_curves(percent)
    return [
        drawn
        for part in _parts(found)
        for column in ("train_loss", "val_loss", "val_dice")
        for drawn in _drawn(part, column, f"with {percent} % of the labels")
    ]


def pretext(run: Run) -> dict[str, list[Picture]]:
    """Pretext curves by loss, a picture for each column: different losses have different scales."""
    losses: dict[str, list[Curve]] = {}
    for curve in run.pretext_curves():
        losses.setdefault(curve.method.rpartition("/")[2], []).append(curve)
    found = {}
    for loss, curves in losses.items():
        columns = dict.fromkeys(
            name for curve in curves for name in curve.columns if name not in {"epoch", "lr"}
        )
        found[display("/" + loss)] = [
            p for name in columns for p in _drawn(curves, name, "in pretext learning")
        ]
    return {loss: pictures for loss, pictures in found.items() if pictures}


def filters(run: Run) -> Picture | None:
    """What the band-stop filter takes away."""
    z = run.galleries()
    if not z.keys() >= {"original", "filtered", "kept"} or not len(z["original"]):
        return None
    figure = plots.filter_gallery(*(z[name][:SHOWN] for name in ("original", "filtered", "kept")))
    return picture(figure, "images before and after the band-stop filter, their difference and their spectra")


def jigsaws(run: Run) -> Picture | None:
    """What the jigsaw rearranges."""
    z = run.galleries()
    if not z.keys() >= {"original", "jigsaw", "grid"} or not len(z["original"]):
        return None
    r, s = (int(n) for n in z["grid"])
    focal = z["focal"][:SHOWN] if "focal" in z else None
    figure = plots.jigsaw_gallery(z["original"][:SHOWN], z["jigsaw"][:SHOWN], (r, s), focal)
    return picture(figure, "images before and after the patch jigsaw")


def overlays(cell: Cell) -> list[Picture]:
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
    return [_cases(cell, z, chosen) for chosen in (first, rest) if chosen]


def _cases(cell: Cell, z: dict[str, Any], chosen: list[int]) -> Picture:
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
    alt = f"{display(cell.method)}: image, ground truth, prediction and overlay of {len(chosen)} test cases"
    return picture(figure, alt, caption="From top: " + "; ".join(captions) + ".", dpi=100)


def _parts(found: Sequence[Curve]) -> list[list[Curve]]:
    if len({curve.method for curve in found}) <= 5:
        return [list(found)] if found else []
    jigsaws = dict.fromkeys(c.method.partition("/")[0] for c in found if c.method != SUPERVISED)
    return [
        [c for c in found if c.method == SUPERVISED or c.method.partition("/")[0] == name] for name in jigsaws
    ]


def _drawn(found: Iterable[Curve], column: str, where: str) -> list[Picture]:
    held = [c for c in found if column in c.columns and np.isfinite(c.columns[column]).any()]
    if not held:
        return []
    runs = {
        f"{c.method}, seed {c.seed}": (
            c.columns.get("epoch") or range(len(c.columns[column])),
            c.columns[column],
        )
        for c in held
    }
    groups = {f"{c.method}, seed {c.seed}": display(c.method) for c in held}
    label = _COLUMNS.get(column, column.replace("_", " "))
    figure = plots.curves(runs, ylabel=label, groups=groups, ylim=(0, 1) if column == "val_dice" else None)
    return [picture(figure, f"{label} {where}: " + ", ".join(dict.fromkeys(groups.values())))]
