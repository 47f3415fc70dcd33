"""Classification metrics of a whole test set: confusion matrix and what follows from it, and the areas under curves.

Multi-class Matthews correlation is Gorodkin's R_K ("Comparing two K-category assignments by a K-category correlation
coefficient", 2004), as in scikit-learn. F1 is weighted by support. In it 0 / 0 counts as 0: a class that is never
predicted has precision 0. What one class has against the rest (sensitivity, specificity, both areas) is an error where
the cases that it is a share of are missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ._masks import comparable


def confusion_matrix(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """Count cases by true and predicted class.

    Args:
        pred: (N,) integers in 0..classes - 1, the predicted classes.
        target: (N,) integers in 0..classes - 1, the true classes.
        classes: number of classes, at least 2.

    Returns:
        Counts (classes, classes) int64, row the truth, column the prediction.

    Raises:
        TypeError: pred or target is not of integers.
        ValueError: shapes or devices that differ, no case, or a class out of range.

    Example:
        >>> pred, target = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2])
        >>> confusion_matrix(pred, target, classes=3)
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 1, 1]])
    """
    _checks.integer("classes", classes, low=2)
    for name, labels in (("pred", pred), ("target", target)):
        _class_labels(name, labels, classes)
    _checks.same_shape("pred", pred, "target", target)
    _checks.same_device(pred=pred, target=target)
    cells = target.long() * classes + pred.long()
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def mcc(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """Matthews correlation coefficient of any number of classes, R_K.

    Args:
        pred: as in `confusion_matrix`.
        target: as in `confusion_matrix`.
        classes: as in `confusion_matrix`.

    Returns:
        Scalar float64 in [-1, 1]: 1 for perfect agreement, 0 for chance, and 0 where prediction or truth is one class
        only.

    Example:
        >>> mcc(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=3)
        tensor(0.7000, dtype=torch.float64)
    """
    matrix = confusion_matrix(pred, target, classes=classes).double()
    true, predicted, total = matrix.sum(1), matrix.sum(0), matrix.sum()
    covariance = matrix.trace() * total - (true * predicted).sum()
    variances = (total**2 - (true**2).sum()) * (total**2 - (predicted**2).sum())
    return torch.where(variances > 0, covariance / variances.clamp(min=1).sqrt(), 0.0)


def balanced_accuracy(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """Mean recall over the classes that occur in `target`, so that a frequent class does not decide alone.

    Args:
        pred: as in `confusion_matrix`.
        target: as in `confusion_matrix`.
        classes: as in `confusion_matrix`.

    Returns:
        Scalar float64 in [0, 1]. A class without a case has no recall and is left out.

    Example:
        >>> balanced_accuracy(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=3)
        tensor(0.8333, dtype=torch.float64)
    """
    matrix = confusion_matrix(pred, target, classes=classes).double()
    support = matrix.sum(1)
    return (matrix.diagonal() / support.clamp(min=1)).sum() / (support > 0).sum()


def weighted_f1(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """F1 of each class against the rest, weighted by the class's number of cases.

    Args:
        pred: as in `confusion_matrix`.
        target: as in `confusion_matrix`.
        classes: as in `confusion_matrix`.

    Returns:
        Scalar float64 in [0, 1].

    Example:
        >>> weighted_f1(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=3)
        tensor(0.7500, dtype=torch.float64)
    """
    matrix = confusion_matrix(pred, target, classes=classes).double()
    true, predicted = matrix.sum(1), matrix.sum(0)
    f1 = 2 * matrix.diagonal() / (true + predicted).clamp(min=1)
    mean: Tensor = (f1 * true).sum() / true.sum()
    return mean


def sensitivity(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """Share of the cases of each class that are found: true positive rate, recall.

    Args:
        pred: as in `confusion_matrix`.
        target: as in `confusion_matrix`.
        classes: as in `confusion_matrix`.

    Returns:
        (classes,) float64 in [0, 1], each class against the rest. Of two classes, [1] is the sensitivity of class 1
        and [0] its specificity.

    Raises:
        TypeError: as in `confusion_matrix`.
        ValueError: as in `confusion_matrix`, or a class without a case.

    Example:
        >>> sensitivity(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=3)
        tensor([1.0000, 1.0000, 0.5000], dtype=torch.float64)
    """
    matrix = confusion_matrix(pred, target, classes=classes)
    support = matrix.sum(1)
    missing = (support == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"target must have cases in every class, got none in {missing}")
    return matrix.diagonal().double() / support


def specificity(pred: Tensor, target: Tensor, *, classes: int) -> Tensor:
    """Share of the cases outside each class that are kept out of it: true negative rate.

    Args:
        pred: as in `confusion_matrix`.
        target: as in `confusion_matrix`.
        classes: as in `confusion_matrix`.

    Returns:
        (classes,) float64 in [0, 1], each class against the rest.

    Raises:
        TypeError: as in `confusion_matrix`.
        ValueError: as in `confusion_matrix`, or a class that has all cases.

    Example:
        >>> specificity(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]), classes=3)
        tensor([1.0000, 0.6667, 1.0000], dtype=torch.float64)
    """
    matrix = confusion_matrix(pred, target, classes=classes)
    others = matrix.sum() - matrix.sum(1)
    full = (others == 0).nonzero().flatten().tolist()
    if full:
        raise ValueError(f"target must have cases outside every class, got none outside {full[0]}")
    false_positives = matrix.sum(0) - matrix.diagonal()
    return (others - false_positives).double() / others


def roc_auc(scores: Tensor, target: Tensor) -> Tensor:
    """Area under the ROC curve: the chance that a positive case scores above a negative one, ties counting half.

    Args:
        scores: (N,) floating point, higher for class 1; or (N, C), a column for each class.
        target: (N,) integers: 0 and 1, or 0..C - 1; for scores (N,) also bool.

    Returns:
        Scalar float64 in [0, 1], or (C,), each class against the rest.

    Raises:
        TypeError: scores are not floating point, or target is neither of integers nor, for scores (N,), bool.
        ValueError: shapes or devices that do not fit, NaN scores, or a class that has all cases or none.

    Example:
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
        tensor(0.7500, dtype=torch.float64)
    """
    areas = []
    for name, column, positive in _one_vs_rest(scores, target):
        positives = int(positive.sum())
        negatives = len(positive) - positives
        if not positives or not negatives:
            raise ValueError(f"target must have cases in class {name} and out of it, got {positives} and {negatives}")
        # The Mann-Whitney statistic over its maximum, with the mean rank for ties.
        _, group, count = torch.unique(column, return_inverse=True, return_counts=True)
        rank = (count.cumsum(0) - (count.double() - 1) / 2)[group]
        above = rank[positive].sum() - positives * (positives + 1) / 2
        areas.append(above / (positives * negatives))
    return torch.stack(areas) if scores.ndim == 2 else areas[0]


def average_precision(scores: Tensor, target: Tensor) -> Tensor:
    """Area under the precision-recall curve as a step sum: the mean precision at the thresholds that find a case.

    AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores from high to low, as in scikit-learn; no interpolation,
    which would flatter. Scores without information give about the share of positive cases, not 1 / 2.

    Args:
        scores: (N,) floating point, higher for class 1; or (N, C), a column for each class.
        target: (N,) integers: 0 and 1, or 0..C - 1; for scores (N,) also bool.

    Returns:
        Scalar float64 in (0, 1], or (C,), each class against the rest.

    Raises:
        TypeError: as in `roc_auc`.
        ValueError: shapes or devices that do not fit, NaN scores, or a class without a case.

    Example:
        >>> average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
        tensor(0.8333, dtype=torch.float64)
    """
    areas = []
    for name, column, positive in _one_vs_rest(scores, target):
        positives = int(positive.sum())
        if not positives:
            raise ValueError(f"target must have cases in class {name}, got none")
        ordered, order = column.sort(descending=True)
        found = positive[order].double().cumsum(0)
        # Cases with one score pass the threshold together: only the last of them is a point of the curve.
        last = torch.cat([ordered[1:] != ordered[:-1], torch.ones_like(positive[:1])]).nonzero().flatten()
        precision, new = found[last] / (last + 1), found[last].diff(prepend=found.new_zeros(1))
        areas.append((precision * new).sum() / positives)
    return torch.stack(areas) if scores.ndim == 2 else areas[0]


def _one_vs_rest(scores: Tensor, target: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """Check both; give for each class its number, its scores (N,) and its cases (N,) bool."""
    _checks.floating("scores", scores)
    _checks.shaped("scores", scores, "(N,) or (N, C)", ndim=(1, 2))
    if scores.ndim == 2 and scores.shape[1] < 2:
        raise ValueError(
            f"scores must have shape (N,), or (N, C) with a column for each class, got {tuple(scores.shape)};"
            " for two classes drop the column, e.g. scores[:, 0]"
        )
    classes = 2 if scores.ndim == 1 else scores.shape[1]
    if scores.ndim == 1 and isinstance(target, Tensor) and target.dtype == torch.bool:
        target = target.long()  # one class against the rest, e.g. label == 1
    _class_labels("target", target, classes)
    if len(scores) != len(target):
        raise ValueError(f"scores must have one row for each of {len(target)} cases, got {tuple(scores.shape)}")
    _checks.same_device(scores=scores, target=target)
    if bool(scores.isnan().any()):
        raise ValueError("scores must be numbers, got NaN")
    if scores.ndim == 1:
        return [(1, scores, target.long() == 1)]
    return [(k, scores[:, k], target.long() == k) for k in range(classes)]


def _class_labels(name: str, labels: Tensor, classes: int) -> None:
    _checks.shaped(name, labels, "(N,)", ndim=1)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be a tensor of integers, got {labels.dtype}")
    if not len(labels):
        raise ValueError(f"{name} must hold at least one case, got none")
    known = comparable(labels)
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= classes:
        raise ValueError(f"{name} must hold classes 0..{classes - 1}, got values from {low} to {high}")
