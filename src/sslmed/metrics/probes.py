"""Probes: how well simple classifiers predict a class from the features of a frozen network.

Weighted nearest neighbours: Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR
2018, section 3.4. The linear probe is ridge regression onto the classes, which has a closed form: no training, no
random numbers, the same result each time.

Both return predictions, so that any metric of classification can follow. They compute in float64 on the features'
device, outside any graph. Labels are integers in 0..classes - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .._tensor import unit_rows
from .classification import _class_labels

_ROWS = 256  # of similarities held at a time


@torch.no_grad()
def knn_predictions(
    train: Tensor, labels: Tensor, test: Tensor, *, classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Predict the class of each test row by a vote of its k most similar training rows.

    Similarity is the cosine, and a neighbour's vote counts exp(cosine / temperature). Where votes are equal the class
    with the lower number wins.

    Args:
        train: (N, D) features of the training cases.
        labels: (N,) integers, their classes.
        test: (M, D) features of the cases to predict.
        classes: number of classes, at least 2.
        k: neighbours, at most N.
        temperature: above 0; the lower it is, the more the nearest of the k neighbours decide.

    Returns:
        (M,) int64.

    Raises:
        TypeError: features not of floating point, or labels not of integers.
        ValueError: shapes or devices that do not fit, no rows, a class out of range, or k above N.

    Example:
        >>> train = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> test = torch.tensor([[2.0, 0.3], [0.1, 1.0]])
        >>> knn_predictions(train, torch.tensor([0, 0, 1]), test, classes=2, k=1)
        tensor([0, 1])
    """
    _checked(train, labels, test, classes)
    _checks.integer("k", k, low=1, high=len(train))
    temperature = _checks.number("temperature", temperature, low=0, low_open=True)
    rows, votes_of = unit_rows(train.double()), _one_hot(labels, classes)
    found = []
    cases = unit_rows(test.double())
    for start in range(0, len(cases), _ROWS):
        # A stable order: of equally similar rows the first ones count.
        similar, nearest = (cases[start : start + _ROWS] @ rows.T).sort(dim=1, descending=True, stable=True)
        weights = ((similar[:, :k] - similar[:, :1]) / temperature).exp()
        votes = (weights[:, None, :] @ votes_of[nearest[:, :k]])[:, 0]
        found.append(votes.argmax(dim=1))
    return torch.cat(found)


@torch.no_grad()
def linear_probe_predictions(
    train: Tensor, labels: Tensor, test: Tensor, *, classes: int, ridge: float = 1.0
) -> Tensor:
    """Predict the class of each test row by ridge regression onto the classes of the training rows.

    Features are standardised by mean and standard deviation of the training rows; a feature that is constant there is
    not used. The class with the highest regressed value wins.

    Args:
        train: as in `knn_predictions`.
        labels: as in `knn_predictions`.
        test: as in `knn_predictions`.
        classes: as in `knn_predictions`.
        ridge: weight of the penalty, above 0, in units of the mean eigenvalue of the training rows' Gram matrix.

    Returns:
        (M,) int64.

    Raises:
        TypeError, ValueError: as in `knn_predictions`, or `ridge` not above 0.

    Example:
        >>> train = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
        >>> test = torch.tensor([[0.2, 9.0], [2.9, 9.0]])
        >>> linear_probe_predictions(train, torch.tensor([0, 0, 1, 1]), test, classes=2)
        tensor([0, 1])
    """
    _checked(train, labels, test, classes)
    ridge = _checks.number("ridge", ridge, low=0, low_open=True)
    rows, cases, targets = train.double(), test.double(), _one_hot(labels, classes)
    mean, scale = rows.mean(dim=0), rows.std(dim=0, correction=0)
    # Rounding leaves a constant feature a spread of about 1e-16 of its value.
    used = scale > 1e-12 * rows.abs().amax(dim=0)
    scale = scale.masked_fill(~used, torch.inf) * used.sum().clamp(min=1).sqrt()
    rows, cases = (rows - mean) / scale, (cases - mean) / scale
    centre = targets.mean(dim=0)
    if len(rows) > rows.shape[1]:
        weights = torch.linalg.solve(_plus_diagonal(rows.T @ rows, ridge), rows.T @ (targets - centre))
    else:
        weights = rows.T @ torch.linalg.solve(_plus_diagonal(rows @ rows.T, ridge), targets - centre)
    scores: Tensor = cases @ weights + centre
    return scores.argmax(dim=1)


def _checked(train: Tensor, labels: Tensor, test: Tensor, classes: int) -> None:
    """Raise unless features, labels and number of classes fit each other."""
    for name, rows in (("train", train), ("test", test)):
        _checks.floating(name, rows)
        _checks.shaped(name, rows, "(N, D)", ndim=2)
        if not rows.numel():
            raise ValueError(f"{name} must have at least one row and one feature, got shape {tuple(rows.shape)}")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train and test must have the same number of features, got {train.shape[1]} and {test.shape[1]}"
        )
    _checks.integer("classes", classes, low=2)
    _class_labels("labels", labels, classes)
    if len(labels) != len(train):
        raise ValueError(f"labels must have one class for each of the {len(train)} rows of train, got {len(labels)}")
    _checks.same_device(train=train, labels=labels, test=test)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return (labels[:, None] == torch.arange(classes, device=labels.device)).double()


def _plus_diagonal(matrix: Tensor, value: float) -> Tensor:
    return matrix + value * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
