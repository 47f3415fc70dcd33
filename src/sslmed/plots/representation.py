"""What a network has learned to tell apart: its features as a map, a dot for each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._inputs import Array, array, same_length
from ._style import CYCLE, MUTED, settle, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*"


@styled
def embedding(xy: Array, labels: Sequence[str] | Array, *, title: str | None = None) -> Figure:
    """Points in the plane, coloured by label; t-SNE and UMAP axes have no unit, so none are drawn.

    Args:
        xy: (N, 2) finite floating point, from t-SNE or the like.
        labels: N names; colours follow their alphabetic order, so that pictures of one set agree.
        title: above the points.

    Returns:
        The figure, a third of a report page wide. Colour and marker both tell the labels apart.

    Raises:
        ValueError: wrong shapes or lengths, or coordinates that are not finite.

    Example:
        >>> figure = embedding([[0.0, 1.0], [2.0, 3.0]], ["benign", "malignant"], title="SimCLR")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['benign (1)', 'malignant (1)']
    """
    from matplotlib.figure import Figure

    points = array(xy).astype(np.float64)
    names = [str(name) for name in (array(labels) if not isinstance(labels, (list, tuple)) else labels)]
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"xy must be finite numbers of shape (N, 2), got shape {points.shape}")
    same_length(xy=points, labels=names)
    found = sorted(set(names))
    columns = 2 if len(found) > 1 and max(map(len, found)) <= 14 else 1
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.3, 3.1 + 0.19 * rows), layout="constrained")
    axes = figure.add_subplot()
    for k, name in enumerate(found):
        own = points[[other == name for other in names]]
        axes.scatter(
            own[:, 0], own[:, 1], s=17, color=CYCLE[k % len(CYCLE)], marker=_MARKERS[k % len(_MARKERS)], alpha=0.75,
            edgecolors="white", linewidths=0.4, label=f"{name or 'no label'} ({len(own)})",
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.06)
    axes.spines[:].set(visible=True, color=MUTED, linewidth=0.5)
    if title is not None:
        axes.set_title(title, fontweight="bold")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=columns, handletextpad=0.2)
    settle(figure)
    return figure
