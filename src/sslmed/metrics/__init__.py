"""Metrics: of segmentation, one value per case with one policy for empty masks; of classification; of embeddings.

Masks are of one class, boolean or integer zeros and ones; a metric returns (B,) float32 on the masks' device.

| shape           | meaning for every metric of masks                                                    |
|-----------------|--------------------------------------------------------------------------------------|
| (B, H, W)       | images                                                                               |
| (B, 1, H, W)    | the same images with their channel; a volume of one slice is measured in its plane   |
| (B, D, H, W)    | volumes, D at least 2; refused where exactly one of the D is set at every pixel,      |
|                 | because that is how one-hot classes (B, C, H, W) look: score each class alone        |
| (B, 1, D, H, W) | volumes with their channel, never taken for classes                                  |

| pred  | target | overlap | distance            | `empty="nan"`: overlap, distance |
|-------|--------|---------|---------------------|----------------------------------|
| empty | empty  | 1       | 0                   | nan, nan                         |
| empty | filled | 0       | as `empty` says     | 0, nan                           |
| filled| empty  | 0       | as `empty` says     | nan, nan                         |

`per_class` scores masks (B, C, *S) and label maps class by class; `stateful` collects metrics over batches.

`pixel_accuracy` counts all pixels and knows no empty case.

For distances `empty="worst"` gives the diagonal of the image, so that missing a lesion never improves a mean,
and `empty="inf"` gives infinity.
"""

from __future__ import annotations

from . import compare, stateful
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
from .classwise import per_class
from .overlap import balanced_pixel_accuracy, dice, jaccard, pixel_accuracy, pixel_counts, precision, recall
from .probes import knn_predictions, linear_probe_predictions
from .representation import alignment, effective_rank, feature_std, lidar, uniformity
from .summary import summarize
from .surface import average_surface_distance, hausdorff, surface_dice

__all__ = [
    "alignment",
    "average_precision",
    "average_surface_distance",
    "balanced_accuracy",
    "balanced_pixel_accuracy",
    "compare",
    "confusion_matrix",
    "dice",
    "effective_rank",
    "feature_std",
    "hausdorff",
    "jaccard",
    "knn_predictions",
    "lidar",
    "linear_probe_predictions",
    "mcc",
    "per_class",
    "pixel_accuracy",
    "pixel_counts",
    "precision",
    "recall",
    "roc_auc",
    "sensitivity",
    "specificity",
    "stateful",
    "summarize",
    "surface_dice",
    "uniformity",
    "weighted_f1",
]
