"""Figures of the images that pretext learning used, and of the features that it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ... import plots
from ...tasks import _report
from ...tasks._report import Figure
from .. import monitor
from ..results import arrays
from .run import Run

SHOWN = 3  # images in a gallery


def filters(run: Run) -> Figure | None:
    """Images before and after the band-stop filter."""
    z = run.galleries()
    if not z.keys() >= {"original", "filtered", "kept"} or not len(z["original"]):
        return None
    figure = plots.filter_gallery(*(z[name][:SHOWN] for name in ("original", "filtered", "kept")))
    return _report.figure(figure, "images before and after the band-stop filter, their difference and their spectra")


def jigsaws(run: Run) -> Figure | None:
    """Images before and after the jigsaw."""
    z = run.galleries()
    if not z.keys() >= {"original", "jigsaw", "grid"} or not len(z["original"]):
        return None
    r, s = (int(n) for n in z["grid"])
    focal = z["focal"][:SHOWN] if "focal" in z else None
    figure = plots.jigsaw_gallery(z["original"][:SHOWN], z["jigsaw"][:SHOWN], (r, s), focal)
    return _report.figure(figure, "images before and after the patch jigsaw")


def pairs(run: Run, shown: int = SHOWN) -> Figure | None:
    """The two views of an image."""
    z = run.galleries()
    if not z.keys() >= {"original", "view0", "view1"} or not len(z["original"]):
        return None
    heads = ("original", "view 0", "view 1")
    if "captions" in z:
        first, second, third = map(str, z["captions"])
        heads = (first, second, third)
    figure = plots.view_gallery(*(z[name][:shown] for name in ("original", "view0", "view1")), heads=heads)
    return _report.figure(figure, "images and two views of each: " + ", ".join(heads))


def neighbours(folder: Path) -> list[Figure]:
    """Images and those with the most similar features, at the start and at the end of a pretext."""
    found = arrays(folder / monitor.ARRAYS)
    figures = []
    for part, words in (("start", "at the start"), ("end", "after the training")):
        if f"{part}_neighbours" in found:
            queries, nearest = (found[f"{part}_{name}"] / np.float32(255) for name in ("queries", "neighbours"))
            figure = plots.neighbour_gallery(queries, nearest)
            alt = f"images and those whose features are most similar, {words}"
            figures.append(_report.figure(figure, alt, caption=words.capitalize()))
    return figures


def features(run: Run) -> list[Figure]:
    """Maps of the features of test images, of the first seed of each method."""
    found: dict[str, Figure] = {}
    for title, _, folder in run.pretexts():
        z = arrays(folder / "features.npz")
        if title not in found and z and len(z["xy"]):
            figure = plots.embedding(z["xy"], z["label"], title=title)
            found[title] = _report.figure(figure, f"t-SNE of the features of test images: {title}")
    return list(found.values())
