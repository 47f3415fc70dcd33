"""Segmentation metrics: one value per case, and one policy for empty masks.

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

from .overlap import balanced_pixel_accuracy, dice, jaccard, pixel_accuracy, precision, recall
from .surface import hausdorff

__all__ = [
    "balanced_pixel_accuracy",
    "dice",
    "hausdorff",
    "jaccard",
    "pixel_accuracy",
    "precision",
    "recall",
]
