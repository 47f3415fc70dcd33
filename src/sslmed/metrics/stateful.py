"""Metrics for training loops: `update` with each batch, `compute` at the end of an epoch, then `reset`.

The classes follow torchmetrics' protocol without needing it. They are modules without parameters or buffers, move with
the network they belong to, and give what the function of the same name gives for all cases together, however they were
cut into batches. `PerCase` and `WholeSet` collect any other function.

Under DDP each process adds its own cases. `compute`, which all processes must call, gives each of them the value of all
cases. Every row counts, so each case must be given once, by one process. torch's DistributedSampler repeats cases to
make the shares equal, and where every process sees the whole set, each case counts once for each process. A sampler
of `range(rank(), len(data), world_size())` gives each case once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _checks
from . import classification, overlap, surface
from ._collect import PerCase, WholeSet

__all__ = [
    "MCC",
    "ROCAUC",
    "AveragePrecision",
    "AverageSurfaceDistance",
    "BalancedAccuracy",
    "BalancedPixelAccuracy",
    "ConfusionMatrix",
    "Dice",
    "Hausdorff",
    "Jaccard",
    "PerCase",
    "PixelAccuracy",
    "PixelCounts",
    "Precision",
    "Recall",
    "Sensitivity",
    "Specificity",
    "SurfaceDice",
    "WeightedF1",
    "WholeSet",
]


class Dice(PerCase):
    """Mean `dice` of all cases."""

    def __init__(self, *, empty: str = "worst") -> None:
        super().__init__(overlap.dice, empty=empty)


class Jaccard(PerCase):
    """Mean `jaccard` of all cases."""

    def __init__(self, *, empty: str = "worst") -> None:
        super().__init__(overlap.jaccard, empty=empty)


class Precision(PerCase):
    """Mean `precision` of the pixels of all cases."""

    def __init__(self, *, empty: str = "worst") -> None:
        super().__init__(overlap.precision, empty=empty)


class Recall(PerCase):
    """Mean `recall` of the pixels of all cases."""

    def __init__(self, *, empty: str = "worst") -> None:
        super().__init__(overlap.recall, empty=empty)


class PixelAccuracy(PerCase):
    """Mean `pixel_accuracy` of all cases."""

    def __init__(self) -> None:
        super().__init__(overlap.pixel_accuracy)


class BalancedPixelAccuracy(PerCase):
    """Mean `balanced_pixel_accuracy` of all cases."""

    def __init__(self) -> None:
        super().__init__(overlap.balanced_pixel_accuracy)


class PixelCounts(PerCase):
    """Sum of `pixel_counts` over all cases, (4,) int64: TP, FP, FN, TN of all pixels pooled."""

    def __init__(self) -> None:
        super().__init__(overlap.pixel_counts)

    def _value(self, *rows: Tensor) -> Tensor:
        return rows[0].sum(0)


class Hausdorff(PerCase):
    """Mean `hausdorff` of all cases; `percentile=95` gives the HD95."""

    def __init__(
        self,
        *,
        spacing_mm: Sequence[float] | Tensor | None = None,
        percentile: float = 100.0,
        empty: str = "worst",
    ) -> None:
        super().__init__(surface.hausdorff, spacing_mm=spacing_mm, percentile=percentile, empty=empty)


class AverageSurfaceDistance(PerCase):
    """Mean `average_surface_distance` of all cases."""

    def __init__(self, *, spacing_mm: Sequence[float] | Tensor | None = None, empty: str = "worst") -> None:
        super().__init__(surface.average_surface_distance, spacing_mm=spacing_mm, empty=empty)


class SurfaceDice(PerCase):
    """Mean `surface_dice` of all cases."""

    def __init__(
        self, *, tolerance_mm: float, spacing_mm: Sequence[float] | Tensor | None = None, empty: str = "worst"
    ) -> None:
        super().__init__(surface.surface_dice, tolerance_mm=tolerance_mm, spacing_mm=spacing_mm, empty=empty)


class _OfLabels(WholeSet):
    """Of predicted classes (N,) and true ones (N,); a bad label raises in its batch."""

    def __init__(self, metric: Any, classes: int) -> None:
        super().__init__(metric, classes=_checks.integer("classes", classes, low=2))

    def _check(self, pred: Tensor, target: Tensor) -> None:
        super()._check(pred, target)
        if len(target):
            classification.confusion_matrix(pred, target, **self.settings)


class ConfusionMatrix(_OfLabels):
    """`confusion_matrix` of all cases, (classes, classes)."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.confusion_matrix, classes)


class MCC(_OfLabels):
    """`mcc` of all cases."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.mcc, classes)


class BalancedAccuracy(_OfLabels):
    """`balanced_accuracy` of all cases."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.balanced_accuracy, classes)


class WeightedF1(_OfLabels):
    """`weighted_f1` of all cases."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.weighted_f1, classes)


class Sensitivity(_OfLabels):
    """`sensitivity` of all cases, (classes,)."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.sensitivity, classes)


class Specificity(_OfLabels):
    """`specificity` of all cases, (classes,)."""

    def __init__(self, *, classes: int) -> None:
        super().__init__(classification.specificity, classes)


class _OfScores(WholeSet):
    """Of scores (N,) or (N, C) and true classes (N,); a bad score or label raises in its batch."""

    def _check(self, pred: Tensor, target: Tensor) -> None:
        super()._check(pred, target)
        if len(target):
            classification._one_vs_rest(pred, target)


class ROCAUC(_OfScores):
    """`roc_auc` of all cases: `update(scores, target)`."""

    def __init__(self) -> None:
        super().__init__(classification.roc_auc)


class AveragePrecision(_OfScores):
    """`average_precision` of all cases: `update(scores, target)`."""

    def __init__(self) -> None:
        super().__init__(classification.average_precision)
