"""The predictions of several methods on the same images, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._inputs import Array, array, gray, label_map, same_length
from ._panels import panels
from ._style import MUTED, styled
from .overlays import _TARGET, REGIONS, _extent, _items, _legend, _outline, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Light shades of Okabe and Ito's palette, visible on dark images.
STRUCTURES = ("#56b4e9", "#e69f00", "#cc79a7", "#f0e442", "#009e73", "#d55e00")


@styled
def prediction_grid(
    images: Sequence[Array] | Array,
    targets: Sequence[Array] | Array,
    preds: Mapping[str, Sequence[Array | None]],
    titles: Sequence[str] | None = None,
    *,
    scores: Mapping[str, Sequence[str]] | None = None,
    structures: Sequence[str] = (),
) -> Figure:
    """One row for each case: image, reference, and the prediction of each method.

    A prediction of one structure is tinted as in `overlay`. Several structures have a colour each, and the reference
    is drawn over the predictions as a white outline.

    Args:
        images: N images as in `overlay`; they may differ in size.
        targets: N references: bool, or numbers of the structures from 1 on, with 0 for the background.
        preds: name of a method -> N predictions like the references; None leaves a panel empty.
        titles: N texts beside the rows; line breaks are kept.
        scores: name of a method -> N texts to write under its panels.
        structures: the names of the structures.

    Returns:
        The figure.

    Raises:
        TypeError, ValueError: as `overlay`, and where lengths differ, there is no case, or a number has no structure.

    Reference:
        Ellis et al. (relation contrastive loss for ultrasound), Fig. 4.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((1, 8, 8), dtype=bool)
        >>> len(prediction_grid(np.zeros((1, 8, 8)), mask, {"SimCLR": mask, "MoCo": mask}).axes)
        4
    """
    predicted = {f"preds[{name!r}]": list(own) for name, own in preds.items()}
    count = same_length(images=_items(images), targets=_items(targets), **predicted)
    for name, texts in {"titles": titles, **{f"scores[{m!r}]": t for m, t in (scores or {}).items()}}.items():
        if texts is not None and len(texts) != count:
            raise ValueError(f"{name} must have {count} entries, one for each image, got {len(texts)}")
    bases = [gray("images", image) for image in _items(images)]
    names = list(structures) or ["structure"]
    heads = ("image", "reference", *preds)
    under = 0.17 if scores else 0.0
    figure, rows = panels([b.shape[0] / b.shape[1] for b in bases], heads, titles, width=1.35, foot=0.35, under=under)
    for k, (row, base, target) in enumerate(zip(rows, bases, _items(targets), strict=True)):
        truth = _numbers("targets", target, base, names)
        row[0].imshow(base, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", extent=_extent(base))
        if len(names) > 1:
            row[1].imshow(_coloured(base, truth), interpolation="bilinear", extent=_extent(base))
        else:
            row[1].imshow(base, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", extent=_extent(base))
            _outline(row[1], truth > 0, _TARGET)
        for axes, (name, own) in zip(row[2:], preds.items(), strict=True):
            pred = own[k]
            if pred is None:
                continue
            guess = _numbers(f"preds[{name!r}]", pred, base, names)
            # Small images are enlarged first: an outline one original pixel wide would hide a small lesion.
            size = max(1, 200 // min(base.shape))
            large, large_guess = base.repeat(size, 0).repeat(size, 1), guess.repeat(size, 0).repeat(size, 1)
            if len(names) > 1:
                picture: npt.NDArray[Any] = _coloured(large, large_guess)
            else:
                picture = overlay(large, truth.repeat(size, 0).repeat(size, 1) > 0, large_guess > 0)
            axes.imshow(picture, interpolation="bilinear", extent=_extent(base))
            for number in range(1, len(names) + 1):
                _outline(axes, truth == number, _TARGET, width=0.7)
            if scores and name in scores:
                text, across = scores[name][k], axes.transAxes
                axes.text(0.5, -0.03, text, transform=across, ha="center", va="top", fontsize=7.5, color=MUTED)
    if len(names) > 1:
        _legend(figure, {name: _colour(number) for number, name in enumerate(names, 1)}, "reference outline")
    else:
        _legend(figure, REGIONS, "reference outline")
    return figure


def _numbers(name: str, values: Array, base: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.int64]:
    found = label_map(name, array(values), base.shape)
    if found.max() > len(names):
        raise ValueError(f"{name} must be numbers from 0 to {len(names)}, one for each structure, got {found.max()}")
    return found


def _coloured(base: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The image with each structure tinted in its colour."""
    from matplotlib.colors import to_rgb

    rgb = np.repeat(np.clip(base, 0, 1)[..., None], 3, axis=2)
    for number in range(1, int(numbers.max()) + 1):
        region = numbers == number
        rgb[region] = 0.45 * rgb[region] + 0.55 * np.array(to_rgb(_colour(number)), dtype=np.float32)
    return rgb


def _colour(number: int) -> str:
    return STRUCTURES[(number - 1) % len(STRUCTURES)]
