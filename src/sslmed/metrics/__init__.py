"""Metrics: of segmentation, one value per case with one policy for empty masks; and of classification.

Masks are (B, H, W) or (B, D, H, W), boolean or integer zeros and ones; a metric returns (B,) float32 on the
masks' device.

| pred  | target | overlap | distance            | `empty="nan"`: overlap, distance |
|-------|--------|---------|---------------------|----------------------------------|
| empty | empty  | 1       | 0                   | nan, nan                         |
| empty | filled | 0       | as `empty` says     | 0, nan                           |
| filled| empty  | 0       | as `empty` says     | nan, nan                         |

`pixel_accuracy` counts all pixels and knows no empty case.

For distances `empty="worst"` gives the diagonal of the image, so that missing a lesion never improves a mean,
and `empty="inf"` gives infinity.
"""

from __future__ import annotations

from . import compare
from .classification import (
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    mcc,
    roc_auc,
    sensitivity,
    specificity,
    weighted_f1,
)
from .overlap import balanced_pixel_accuracy, dice, jaccard, pixel_accuracy, pixel_counts, precision, recall
from .summary import summarize
from .surface import average_surface_distance, hausdorff, surface_dice

__all__ = [
    "average_precision",
    "average_surface_distance",
    "balanced_accuracy",
    "balanced_pixel_accuracy",
    "compare",
    "confusion_matrix",
    "dice",
    "hausdorff",
    "jaccard",
    "mcc",
    "pixel_accuracy",
    "pixel_counts",
    "precision",
    "recall",
    "roc_auc",
    "sensitivity",
    "specificity",
    "summarize",
    "surface_dice",
    "weighted_f1",
]
