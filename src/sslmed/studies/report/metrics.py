"""What each metric is called, which way is better, and what it means to a reader."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric in words.

    Attributes:
        key: as in the run folder.
        name: in a sentence, with its unit on an axis.
        short: head of a column.
        formula: its definition.
        meaning: what it tells.
        smaller: whether small is good.
        limits: range of its axis, or None.
        digits: decimals in tables.
    """

    key: str
    name: str
    short: str
    formula: str = ""
    meaning: str = ""
    smaller: bool = False
    limits: tuple[float, float] | None = (0.0, 1.0)
    digits: int = 3

    def best_first(self, methods: Iterable[str], score: Mapping[str, float]) -> list[str]:
        """The methods that have a score, best first."""
        known = [m for m in methods if score.get(m, float("nan")) == score.get(m)]
        return sorted(known, key=lambda m: score[m] if self.smaller else -score[m])

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b."""
        return a < b if self.smaller else a > b


def _all(*metrics: Metric) -> dict[str, Metric]:
    return {metric.key: metric for metric in metrics}


METRICS = _all(
    Metric("dice", "Dice", "Dice", "2 TP / (2 TP + FP + FN)",
           "Overlap of the two outlines: 1 is perfect agreement, 0 is none."),
    Metric("jaccard", "Jaccard", "Jaccard", "TP / (TP + FP + FN)",
           "A stricter overlap: intersection over union, from 0 to 1."),
    Metric("precision", "precision (positive predictive value)", "Precision", "TP / (TP + FP)",
           "Share of the predicted area that lies inside the reference."),
    Metric("recall", "recall (sensitivity)", "Recall", "TP / (TP + FN)", "Share of the reference area that was found."),
    Metric("hausdorff", "Hausdorff distance (pixels)", "HD, px", "max of both directed distances",
           "The largest distance from a border point of one outline to the nearest border point of the other, "
           "in pixels of the image as the network sees it; small is good, and one stray spot makes it large.",
           smaller=True, limits=None, digits=2),
    Metric("pooled_dice", "pooled Dice", "Pooled Dice", "as Dice, over all pixels of all test images",
           "One number for the whole set; large structures count more, empty images hardly at all."),
    Metric("pooled_jaccard", "pooled Jaccard", "Pooled Jaccard", "as Jaccard, over all pixels of all test images",
           "As pooled Dice, stricter."),
    Metric("pixel_accuracy", "pixel accuracy", "Pixel acc.", "(TP + TN) / all pixels",
           "Share of pixels called right; high even for an empty prediction where structures are small."),
    Metric("accuracy", "accuracy", "Accuracy", "correct / all cases",
           "Share of cases classified correctly; frequent classes rule it."),
    Metric("correct", "share of cases classified correctly", "Correct"),
    Metric("balanced_accuracy", "balanced accuracy", "Bal. acc.", "mean over classes of the recall",
           "Each class counts the same, however rare; guessing among C classes gives 1 / C."),
    Metric("mcc", "Matthews correlation coefficient", "MCC", "correlation of true and predicted classes",
           "1 is perfect, 0 is no better than chance, also where classes are of unequal size.", limits=(-1.0, 1.0)),
    Metric("weighted_f1", "weighted F1", "Weighted F1", "mean over classes of F1, weighted by their cases",
           "F1 is the harmonic mean of precision and recall of a class; frequent classes count more."),
    Metric("roc_auc", "area under the ROC curve", "ROC area", "mean over classes against the rest",
           "The chance that a case of a class scores higher for it than a case of another; 0.5 is chance."),
    Metric("average_precision", "average precision", "Avg. prec.",
           "step sum of precision over recall, mean over classes",
           "Area under the precision-recall curve; chance is the share of the class, not 0.5."),
)  # fmt: skip


def metric(key: str) -> Metric:
    """The metric of a key; Dice of a structure is derived, an unknown key is its own name."""
    if key in METRICS:
        return METRICS[key]
    part = key.removeprefix("dice_").replace("_", " ")
    if part != key.replace("_", " "):
        return Metric(
            key, f"Dice, {part}", f"Dice, {part}", "as Dice", f"Agreement of the outlines of: {part}."
        )
    return Metric(key, part, part, limits=None)
