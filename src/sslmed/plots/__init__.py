"""Pictures for reports: overlays, galleries, curves and per-case strips (extra `plots`).

Every function builds a `matplotlib.figure.Figure` of its own: no pyplot, no display, no figure left open, so
they run in a training job and in a notebook alike. matplotlib is imported on the first call.

    >>> import numpy as np
    >>> from sslmed import plots
    >>> figure = plots.curves({"rcl": (np.arange(3), [1.0, 0.5, 0.3])}, ylabel="loss")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss']
"""

from __future__ import annotations

from ._style import save
from .charts import curves, metric_strip
from .galleries import filter_gallery, jigsaw_gallery
from .overlays import FN, FP, TP, overlay, overlay_grid
from .previews import preview

__all__ = [
    "FN",
    "FP",
    "TP",
    "curves",
    "filter_gallery",
    "jigsaw_gallery",
    "metric_strip",
    "overlay",
    "overlay_grid",
    "preview",
    "save",
]
