"""Pictures of what the network was shown in pretext learning, and of what it then told apart."""

from __future__ import annotations

from ... import plots
from . import drawing
from .cell import arrays
from .drawing import Picture
from .run import Run

SHOWN = 3  # images in a gallery


def filters(run: Run) -> Picture | None:
    """What the band-stop filter takes away."""
    z = run.galleries()
    if not z.keys() >= {"original", "filtered", "kept"} or not len(z["original"]):
        return None
    figure = plots.filter_gallery(*(z[name][:SHOWN] for name in ("original", "filtered", "kept")))
    return drawing.picture(
        figure, "images before and after the band-stop filter, their difference and their spectra"
    )


def jigsaws(run: Run) -> Picture | None:
    """What the jigsaw rearranges."""
    z = run.galleries()
    if not z.keys() >= {"original", "jigsaw", "grid"} or not len(z["original"]):
        return None
    r, s = (int(n) for n in z["grid"])
    focal = z["focal"][:SHOWN] if "focal" in z else None
    figure = plots.jigsaw_gallery(z["original"][:SHOWN], z["jigsaw"][:SHOWN], (r, s), focal)
    return drawing.picture(figure, "images before and after the patch jigsaw")


def pairs(run: Run) -> Picture | None:
    """The two views of an image."""
    z = run.galleries()
    if not z.keys() >= {"original", "view0", "view1"} or not len(z["original"]):
        return None
    heads = ("original", "view 0", "view 1")
    if "captions" in z:
        first, second, third = map(str, z["captions"])
        heads = (first, second, third)
    figure = plots.view_gallery(*(z[name][:SHOWN] for name in ("original", "view0", "view1")), heads=heads)
    return drawing.picture(figure, "images and two views of each: " + ", ".join(heads))


def features(run: Run) -> list[Picture]:
    """Maps of the features of test images, of the first seed of each method."""
    found: dict[str, Picture] = {}
    for method, _, path in run.pretexts("features.npz"):
        z = arrays(path)
        if method not in found and len(z["xy"]):
            title = str(z["title"]) if "title" in z else run.display(method)
            figure = plots.embedding(z["xy"], z["label"], title=title)
            found[method] = drawing.picture(figure, f"t-SNE of the features of test images: {title}")
    return list(found.values())
