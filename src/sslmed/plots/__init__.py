"""Pictures for reports: overlays, galleries, curves, classification and per-case strips (extra `plots`).

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
from .classes import precision_recall_curves, roc_curves
from .confusion import confusion_matrix
from .galleries import filter_gallery, jigsaw_gallery
from .labels import label_curves
from .multiples import curve_panels
from .neighbours import neighbour_gallery
from .overlays import FN, FP, TP, overlay, overlay_grid
from .pairs import view_gallery
from .predictions import prediction_grid
from .previews import preview
from .representation import embedding

__all__ = [
    "FN",
    "FP",
    "TP",
    "confusion_matrix",
    "curve_panels",
    "curves",
    "embedding",
    "filter_gallery",
    "jigsaw_gallery",
    "label_curves",
    "metric_strip",
    "neighbour_gallery",
    "overlay",
    "overlay_grid",
    "precision_recall_curves",
    "prediction_grid",
    "preview",
    "roc_curves",
    "save",
    "view_gallery",
]
