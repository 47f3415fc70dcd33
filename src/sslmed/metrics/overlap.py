"""Overlap of masks: Dice, Jaccard, precision, recall and pixel accuracy, per case.

With the counts TP, FP, FN and TN of a case: Dice = 2 TP / (2 TP + FP + FN), Jaccard = TP / (TP + FP + FN),
precision = TP / (TP + FP), recall = TP / (TP + FN), pixel accuracy = (TP + TN) / all. Both masks empty is perfect
agreement, 1; exactly one empty is 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .. import _checks
from ._masks import EMPTY, masks


def dice(pred: torch.Tensor, target: torch.Tensor, *, empty: str = "worst") -> torch.Tensor:
    """Dice similarity coefficient (DSC, F1) of each case.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.
        empty: "worst" and "inf" give 1 where both masks are empty and 0 where exactly one is; "nan" gives nan
            in every case with an empty target.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: shapes or devices differ, an integer mask holds other values than 0 and 1, a mask has the
            channels of several classes, or `empty` is unknown.

    Reference:
        Dice, "Measures of the amount of ecologic association between species", Ecology 1945.

    Example:
        >>> pred, target = torch.zeros(2, 1, 4, dtype=torch.bool), torch.zeros(2, 1, 4, dtype=torch.bool)
        >>> pred[0, 0, :2] = target[0, 0, 1:] = True
        >>> dice(pred, target)
        tensor([0.4000, 1.0000])
    """
    tp, fp, fn, _ = _cells(pred, target, empty)
    return _ratio(2 * tp, 2 * tp + fp + fn, tp, fp, fn, empty)


def jaccard(pred: torch.Tensor, target: torch.Tensor, *, empty: str = "worst") -> torch.Tensor:
    """Jaccard index (intersection over union) of each case; equals D / (2 - D) of its Dice D.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.
        empty: as in `dice`.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Reference:
        Jaccard, "The distribution of the flora in the alpine zone", New Phytologist 1912.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> pred[0, 0, :2] = target[0, 0, 1:] = True
        >>> jaccard(pred, target)
        tensor([0.2500])
    """
    tp, fp, fn, _ = _cells(pred, target, empty)
    return _ratio(tp, tp + fp + fn, tp, fp, fn, empty)


def precision(pred: torch.Tensor, target: torch.Tensor, *, empty: str = "worst") -> torch.Tensor:
    """Precision (positive predictive value) of each case: the share of the prediction that is right.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.
        empty: as in `dice`: an empty prediction of a target that is there has precision 0, not 0/0.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> pred[0, 0, :2] = target[0, 0, 1:] = True
        >>> precision(pred, target)
        tensor([0.5000])
    """
    tp, fp, fn, _ = _cells(pred, target, empty)
    return _ratio(tp, tp + fp, tp, fp, fn, empty)


def recall(pred: torch.Tensor, target: torch.Tensor, *, empty: str = "worst") -> torch.Tensor:
    """Recall (sensitivity, true positive rate) of each case: the share of the target that was found.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.
        empty: as in `dice`: a prediction of an empty target has recall 0, not 0/0.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> pred[0, 0, :2] = target[0, 0, 1:] = True
        >>> recall(pred, target)
        tensor([0.3333])
    """
    tp, fp, fn, _ = _cells(pred, target, empty)
    return _ratio(tp, tp + fn, tp, fp, fn, empty)


def pixel_accuracy(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of all pixels, background included, on which the masks of a case agree.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> target[0, 0, 0] = True
        >>> pixel_accuracy(pred, target)
        tensor([0.7500])
    """
    tp, fp, fn, tn = _cells(pred, target, "worst")
    return ((tp + tn) / (tp + fp + fn + tn)).float()


def balanced_pixel_accuracy(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of the recall of the foreground and the recall of the background of each case.

    Each follows the policy of `recall`: 1 where both masks lack the class, 0 where only the target does.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.

    Returns:
        (B,) float32 in [0, 1].

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> target[0, 0, 0] = True
        >>> balanced_pixel_accuracy(pred, target)
        tensor([0.5000])
    """
    tp, fp, fn, tn = _cells(pred, target, "worst")
    foreground = _ratio(tp, tp + fn, tp, fp, fn, "worst")
    background = _ratio(tn, tn + fp, tn, fn, fp, "worst")
    return (foreground + background) / 2


def pixel_counts(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Count the pixels of each case that are true and false, positive and negative.

    Every other metric of this file is a function of these counts. Those of several batches, also of images of
    different sizes, can be joined with `torch.cat`; `summarize` makes pooled metrics and the counts of empty masks of
    them.

    Args:
        pred: (B, *S) bool, or integer zeros and ones; S has two or three dimensions, and may follow a channel of one.
        target: the reference, of the same shape.

    Returns:
        (B, 4) int64: TP, FP, FN, TN.

    Raises:
        TypeError: a mask is floating point.
        ValueError: as in `dice`.

    Example:
        >>> pred, target = torch.zeros(1, 1, 4, dtype=torch.bool), torch.zeros(1, 1, 4, dtype=torch.bool)
        >>> pred[0, 0, :2] = target[0, 0, 1:] = True
        >>> pixel_counts(pred, target)
        tensor([[1, 1, 2, 0]])
    """
    pred, target = masks(pred, target)
    p, t = pred.flatten(1), target.flatten(1)
    if p.device.type == "cpu":
        return torch.from_numpy(_count_rows(p.numpy(), t.numpy()))
    both, in_pred, in_target = (p & t).sum(1), p.sum(1), t.sum(1)
    outside = p.shape[1] - in_pred - in_target + both
    return torch.stack([both, in_pred - both, in_target - both, outside], dim=1)


def _count_rows(pred: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """TP, FP, FN and TN of each row.

    numpy counts bytes five times faster than torch sums them, and row by row the intersection stays in the cache.
    """
    count, both = np.count_nonzero, np.empty(pred.shape[1], dtype=bool)
    rows = []
    for p, t in zip(pred, target, strict=True):
        tp, in_pred, in_target = count(np.logical_and(p, t, out=both)), count(p), count(t)
        rows.append((tp, in_pred - tp, in_target - tp, len(p) - in_pred - in_target + tp))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _cells(pred: torch.Tensor, target: torch.Tensor, empty: str) -> tuple[torch.Tensor, ...]:
    """TP, FP, FN and TN, each (B,) float64: exact for any size."""
    _checks.choice("empty", empty, EMPTY)
    return pixel_counts(pred, target).double().unbind(1)


def _ratio(
    part: torch.Tensor,
    whole: torch.Tensor,
    tp: torch.Tensor,
    fp: torch.Tensor,
    fn: torch.Tensor,
    empty: str,
) -> torch.Tensor:
    """Divide, and apply the policy for empty masks."""
    value = torch.where(whole > 0, part / whole, fp + fn == 0)
    if empty == "nan":
        value = value.masked_fill(tp + fn == 0, torch.nan)
    return value.float()
