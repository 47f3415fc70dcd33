"""Segmentations on their images: agreement green, over-segmentation red, missed area blue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._inputs import Array, array, gray, mask, same_length
from ._panels import panels
from ._style import MUTED, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Green, red and blue as in the papers' figures, in shades that also differ in lightness and in blue: they
# stay apart for readers who confuse red and green.
TP, FP, FN = (0, 176, 116), (232, 62, 28), (58, 130, 246)
REGIONS = {
    name: tuple(level / 255 for level in colour)
    for name, colour in (("agreement (TP)", TP), ("only predicted (FP)", FP), ("missed (FN)", FN))
}
_TARGET, _PRED = "#ffffff", "#ffb000"


def overlay(image: Array, target: Array, pred: Array, *, alpha: float = 0.4) -> npt.NDArray[np.uint8]:
    """Tint true positives green, false positives red and false negatives blue; borders are in full colour.

    Args:
        image: (H, W) or (1, H, W); uint8, or floating point in [0, 1].
        target: (H, W) or (1, H, W) bool, the reference mask.
        pred: (H, W) or (1, H, W) bool, the predicted mask.
        alpha: weight of the tint inside a region, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB. Pixels outside both masks keep their gray value.

    Raises:
        TypeError: a mask is not bool, or the image is neither uint8 nor floating point.
        ValueError: shapes differ, the image leaves [0, 1], or alpha does.

    Reference:
        Ellis et al. (relation contrastive loss for ultrasound), Fig. 4.

    Example:
        >>> import numpy as np
        >>> target, pred = np.eye(2, dtype=bool), np.array([[True, True], [False, False]])
        >>> overlay(np.zeros((2, 2)), target, pred)[0, 0].tolist() == list(TP)
        True
    """
    base = gray("image", image)
    if not (base.min() >= 0 and base.max() <= 1):
        raise ValueError(f"image must lie in [0, 1], got values from {base.min():g} to {base.max():g}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha!r}")
    truth, guess = mask("target", target, base.shape), mask("pred", pred, base.shape)
    rgb = np.repeat(base[..., None] * 255, 3, axis=2)
    for region, colour in ((truth & guess, TP), (guess & ~truth, FP), (truth & ~guess, FN)):
        weight = np.where(_edge(region), 1.0, alpha)[region][:, None]
        rgb[region] = (1 - weight) * rgb[region] + weight * np.array(colour)
    return np.rint(rgb).astype(np.uint8)


@styled
def overlay_grid(
    images: Sequence[Array] | Array,
    targets: Sequence[Array] | Array,
    preds: Sequence[Array] | Array,
    titles: Sequence[str] | None = None,
    *,
    heads: tuple[str, str, str, str] = ("image", "ground truth", "prediction", "overlay"),
) -> Figure:
    """One row for each case: image, ground truth, prediction, overlay; the images may differ in size.

    Args:
        images: N images as in `overlay`.
        targets: N reference masks.
        preds: N predicted masks.
        titles: N texts beside the rows; line breaks are kept.
        heads: the four column headings.

    Returns:
        The figure. The overlay also carries the outline of the ground truth in white: red lies outside it,
        green inside, so they can be told apart without colour.

    Raises:
        TypeError, ValueError: as `overlay`, and where lengths differ or there is no case.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((1, 8, 8), dtype=bool)
        >>> len(overlay_grid(np.zeros((1, 8, 8)), mask, mask).axes)
        4
    """
    pictures, truths, guesses = (_items(x) for x in (images, targets, preds))
    count = same_length(images=pictures, targets=truths, preds=guesses)
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles must have {count} entries, one for each image, got {len(titles)}")
    bases = [gray("images", picture) for picture in pictures]
    figure, rows = panels([b.shape[0] / b.shape[1] for b in bases], heads, titles, width=2.05, foot=0.3)
    for row, base, truth, guess in zip(rows, bases, truths, guesses, strict=True):
        truth, guess = mask("targets", truth, base.shape), mask("preds", guess, base.shape)
        # Small images are enlarged first: an outline one original pixel wide would hide a small lesion.
        k = max(1, 240 // min(base.shape))
        large, large_truth, large_guess = (x.repeat(k, 0).repeat(k, 1) for x in (base, truth, guess))
        for axes in row[:3]:
            axes.imshow(base, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", extent=_extent(base))
        row[3].imshow(overlay(large, large_truth, large_guess), interpolation="bilinear", extent=_extent(base))
        _outline(row[1], truth, _TARGET)
        _outline(row[2], guess, _PRED)
        _outline(row[3], truth, _TARGET, width=0.7)
    _legend(figure, REGIONS, "ground truth outline")
    return figure


def _items(x: Sequence[Array] | Array) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else list(array(x))  # type: ignore[arg-type]


def _extent(base: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    return (-0.5, base.shape[1] - 0.5, base.shape[0] - 0.5, -0.5)


def _edge(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of `region` with a 4-neighbour outside it; beyond the image is outside."""
    p = np.pad(region, 1)
    return region & ~(p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:])


def _outline(axes: Axes, region: npt.NDArray[np.bool_], colour: str, *, width: float = 1.3) -> None:
    """Draw the border of `region`, closed where it meets the image's border; an empty region has none."""
    if not region.any():
        return
    padded = np.pad(region, 1).astype(np.float32)
    x, y = (np.arange(-1, n + 1) for n in (region.shape[1], region.shape[0]))
    axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width)
    axes.set_xlim(-0.5, region.shape[1] - 0.5)
    axes.set_ylim(region.shape[0] - 0.5, -0.5)


def _legend(figure: Figure, colours: Mapping[str, Any], outline: str) -> None:
    """Name the colours of regions, and the white outline, under the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.patheffects import Normal, Stroke

    line = Line2D([], [], color="white", linewidth=1.6)
    line.set_path_effects([Stroke(linewidth=2.6, foreground=MUTED), Normal()])
    figure.legend(
        [*(Patch(color=colour) for colour in colours.values()), line],
        [*colours, outline],
        loc="lower center",
        ncols=min(len(colours) + 1, 6),
        borderaxespad=0.2,
        handlelength=1.3,
        columnspacing=1.6,
    )
