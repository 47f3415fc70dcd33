"""The registry of metrics: their names, which direction is better, what they mean, and how they are computed.

A metric that is added here is computed by the evaluation of its tasks and appears in metrics.csv or result.json, in
table.csv and in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .. import metrics

Compute = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: as in the run folder.
        name: in a sentence, with its unit on an axis.
        short: head of a column.
        formula: its definition.
        meaning: what it measures.
        kinds: the kinds of task whose evaluation computes it.
        compute: of masks: (pred (N, H, W) bool, target) -> (N,), or of volumes (1, 1, D, H, W); of classes:
            (probability (N, K), target (N,) int64). A metric of the whole set returns a scalar, NaN where undefined.
            None where the task computes it in another way.
        of: "cases", with a value for each; the whole "set"; or the "decision" of a task that makes one.
        smaller: whether lower is better.
        limits: range of its axis, or None.
        digits: decimals in tables.
        in_table: whether it is a row of table.csv.
    """

    key: str
    name: str
    short: str
    formula: str = ""
    meaning: str = ""
    kinds: tuple[str, ...] = ()
    compute: Compute | None = None
    of: Literal["cases", "set", "decision"] = "cases"
    smaller: bool = False
    limits: tuple[float, float] | None = (0.0, 1.0)
    digits: int = 3
    in_table: bool = True

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute it."""
        if self.compute is None:
            raise TypeError(f"the metric {self.key!r} has no function to compute it")
        return self.compute(pred, target)

    def shown(self, value: float) -> str:
        """A value as the tables print it."""
        return f"{value:.{self.digits}f}"

    def best_first(self, methods: Iterable[str], score: Mapping[str, float]) -> list[str]:
        """The methods that have a score, best first."""
        known = [m for m in methods if score.get(m, float("nan")) == score.get(m)]
        return sorted(known, key=lambda m: score[m] if self.smaller else -score[m])

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b."""
        return a < b if self.smaller else a > b


def _pooled(metric: Compute) -> Compute:
    """A metric over all pixels of all images: of one image that holds them all."""
    return lambda pred, target: metric(pred.flatten(0, 1)[None], target.flatten(0, 1)[None])[0]


def _of_classes(metric: Callable[..., Tensor]) -> Compute:
    """A metric of the predicted classes."""
    return lambda probability, target: metric(probability.argmax(1), target, classes=probability.shape[1])


def _against_rest(metric: Compute) -> Compute:
    """The mean over classes against the rest; a class without a case, or with all of them, is left out."""

    def compute(probability: Tensor, target: Tensor) -> Tensor:
        areas = [
            metric(probability[:, c], (target == c).long()).double() for c in with_area(target, probability.shape[1])
        ]
        return torch.stack(areas).mean() if areas else torch.tensor(float("nan"))

    return compute


def _rate_of_each(rate: Callable[..., Tensor]) -> Compute:
    """The mean over classes against the rest of a rate of the predicted classes."""

    def compute(probability: Tensor, target: Tensor) -> Tensor:
        pred = probability.argmax(1)
        rates = [
            rate((pred == c).long(), (target == c).long(), classes=2)[1]
            for c in with_area(target, probability.shape[1])
        ]
        return torch.stack(rates).mean() if rates else torch.tensor(float("nan"))

    return compute


def with_area(target: Tensor, classes: int) -> list[int]:
    """The classes that have both cases and other cases, and so an area under a curve."""
    return [c for c in range(classes) if 0 < int((target == c).sum()) < len(target)]


_OUTLINES, _IMAGES, _CLASSES = ("segmentation", "volumes"), ("segmentation",), ("classification",)
METRICS = {
    metric.key: metric
    for metric in (
        Metric("dice", "Dice", "Dice", "2 TP / (2 TP + FP + FN)",
               "Overlap of the two outlines: 1 is perfect agreement, 0 is none.", _OUTLINES, metrics.dice),
        Metric("hausdorff", "Hausdorff distance (pixels)", "HD, px", "max of both directed distances",
               "The largest distance from a border point of one outline to the nearest border point of the other, "
               "in pixels of the image as the network sees it; lower is better, and one distant pixel makes it large.",
               _OUTLINES, metrics.hausdorff, smaller=True, limits=None, digits=2),
        Metric("jaccard", "Jaccard", "Jaccard", "TP / (TP + FP + FN)",
               "A stricter overlap: intersection over union, from 0 to 1.", _IMAGES, metrics.jaccard),
        Metric("precision", "precision (positive predictive value)", "Precision", "TP / (TP + FP)",
               "Share of the predicted area that lies inside the reference.", _IMAGES, metrics.precision),
        Metric("recall", "recall (sensitivity)", "Recall", "TP / (TP + FN)",
               "Share of the reference area that was found.", _IMAGES, metrics.recall),
        Metric("pooled_dice", "pooled Dice", "Pooled Dice", "as Dice, over all pixels of all test images",
               "One number for the whole set; large structures count more, empty images hardly at all.",
               _IMAGES, _pooled(metrics.dice), "set"),
        Metric("pooled_jaccard", "pooled Jaccard", "Pooled Jaccard", "as Jaccard, over all pixels of all test images",
               "As pooled Dice, stricter.", _IMAGES, _pooled(metrics.jaccard), "set"),
        Metric("pixel_accuracy", "pixel accuracy", "Pixel acc.", "(TP + TN) / all pixels",
               "Share of correct pixels; high even for an empty prediction where structures are small.", _IMAGES,
               lambda pred, target: metrics.pixel_accuracy(pred, target).double().mean(), "set"),
        Metric("decided_dice", "Dice after the decision", "Dice after decision", "as Dice; 0 where a lesion is missed",
               "The network also decides whether an image shows a lesion: it says no where it is not confident of any "
               "outline. A lesion that is missed in this way has a Dice of 0.", _IMAGES, of="decision"),
        Metric("false_alarms", "false alarms", "False alarms", "outlined / all images without a lesion",
               "Share of the test images without a lesion in which something is outlined; lower is better. The "
               "metrics of outlines are of the images with a lesion.", _IMAGES, of="decision", smaller=True),
        Metric("decided_false_alarms", "false alarms after the decision", "False alarms after decision",
               "outlined / all images without a lesion",
               "The same, where images classified as showing no lesion count as not outlined.", _IMAGES,
               of="decision", smaller=True),
        Metric("mcc", "Matthews correlation coefficient", "MCC", "correlation of true and predicted classes",
               "1 is perfect, 0 is no better than chance, also where classes are of unequal size.",
               _CLASSES, _of_classes(metrics.mcc), "set", limits=(-1.0, 1.0)),
        Metric("balanced_accuracy", "balanced accuracy", "Bal. acc.", "mean over classes of the recall",
               "Each class counts the same, however rare; guessing among C classes gives 1 / C.",
               _CLASSES, _of_classes(metrics.balanced_accuracy), "set"),
        Metric("weighted_f1", "weighted F1", "Weighted F1", "mean over classes of F1, weighted by their cases",
               "F1 is the harmonic mean of precision and recall of a class; frequent classes count more.",
               _CLASSES, _of_classes(metrics.weighted_f1), "set"),
        Metric("accuracy", "accuracy", "Accuracy", "correct / all cases",
               "Share of cases classified correctly; frequent classes dominate it.",
               _CLASSES, lambda probability, target: (probability.argmax(1) == target).double().mean(), "set"),
        Metric("sensitivity", "sensitivity", "Sensitivity", "TP / (TP + FN) of each class against the rest, mean",
               "Share of the cases of a class that were found, as a mean over classes; equal to the balanced "
               "accuracy if every class has cases.",
               _CLASSES, _rate_of_each(metrics.sensitivity), "set"),
        Metric("specificity", "specificity", "Specificity", "TN / (TN + FP) of each class against the rest, mean",
               "Share of the other classes' cases that were not taken for a class, as a mean over classes; high "
               "for a rare class that is never predicted.",
               _CLASSES, _rate_of_each(metrics.specificity), "set"),
        Metric("roc_auc", "area under the ROC curve", "ROC area", "mean over classes against the rest",
               "The chance that a case of a class scores higher for it than a case of another; 0.5 is chance.",
               _CLASSES, _against_rest(metrics.roc_auc), "set"),
        Metric("average_precision", "average precision", "Avg. prec.",
               "step sum of precision over recall, mean over classes",
               "Area under the precision-recall curve; chance is the share of the class, not 0.5.",
               _CLASSES, _against_rest(metrics.average_precision), "set"),
        Metric("test_loss", "loss of fine-tuning", "Loss", "what fine-tuning made small, mean over the cases",
               "Also counts how sure the network was: of two that are wrong equally often, the surer one has the "
               "larger loss. Comparable only between networks that were trained with the same loss.",
               (*_IMAGES, *_CLASSES), of="set", smaller=True, limits=None),
        Metric("correct", "share of cases classified correctly", "Correct", kinds=_CLASSES,
               compute=lambda probability, target: (probability.argmax(1) == target).double(), in_table=False),
    )
}  # fmt: skip


def metric(key: str) -> Metric:
    """The metric of a key; Dice of a structure is derived, an unknown key is its own name."""
    if key in METRICS:
        return METRICS[key]
    part = key.removeprefix("dice_").replace("_", " ")
    if part != key.replace("_", " "):
        return Metric(key, f"Dice, {part}", f"Dice, {part}", "as Dice", f"Agreement of the outlines of: {part}.")
    return Metric(key, part, part, limits=None)


def metrics_of(kind: str, of: Literal["cases", "set"] | None = None) -> list[Metric]:
    """The metrics with a `compute` of a kind of task, or those of its single cases or of the whole set."""
    return [m for m in METRICS.values() if kind in m.kinds and m.compute is not None and of in (None, m.of)]


def table_metrics(kind: str) -> tuple[str, ...]:
    """The keys of the metrics of a kind of task that table.csv lists, but for those of a decision."""
    return tuple(m.key for m in METRICS.values() if kind in m.kinds and m.in_table and m.of != "decision")


def case_metric(key: str, kind: str) -> Metric:
    """The metric of single cases for paired tests: the task's own, or the first of its kind if that is of the set."""
    own = metric(key)
    return own if own.of == "cases" else metrics_of(kind, "cases")[0]
