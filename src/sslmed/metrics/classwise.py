"""Metrics of masks with a channel for each class, and of label maps: one value per case and class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from .. import _checks
from ._masks import comparable


def per_class(
    metric: Callable[..., torch.Tensor],
    pred: torch.Tensor,
    target: torch.Tensor,
    *,
    classes: int | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Score each class by itself with a metric of masks, such as `dice` or `hausdorff`.

    Each class is one mask for the metric, whose policy for empty masks applies: by default, a class that is in neither
    mask of a case counts as perfect agreement, and with `empty="nan"` as nan.

    Args:
        metric: a function of masks (B, *S) that returns (B,).
        pred: (B, C, *S) bool, or integer zeros and ones, a channel for each class, which may overlap; S has two or
            three dimensions. With `classes`, label maps (B, *S) of integers in 0..classes - 1.
        target: the reference, of the same shape.
        classes: the number of classes C in label maps, background (0) included; None for masks with channels.
        **settings: passed to the metric, as `spacing_mm`.

    Returns:
        (B, C), a column for each class in order, with label maps from background (0) on. (B, C, 4) of `pixel_counts`.

    Raises:
        TypeError: as the metric raises, or label maps that are not integers.
        ValueError: as the metric raises, shapes that do not fit, or a label out of range.

    Example:
        >>> from sslmed.metrics import dice
        >>> pred, target = torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[0, 1, 1, 2]]])
        >>> per_class(dice, pred, target, classes=3)
        tensor([[0.6667, 0.6667, 1.0000]])
        >>> one_hot = [torch.stack([labels == k for k in range(3)], dim=1) for labels in (pred, target)]
        >>> per_class(dice, *one_hot)  # (1, 3, 1, 4)
        tensor([[0.6667, 0.6667, 1.0000]])
    """
    if not callable(metric):
        raise TypeError(f"metric must be a function of masks, as metrics.dice, got {metric!r}")
    if classes is None:
        _channels("pred", pred)
        _channels("target", target)
        _checks.same_shape("pred", pred, "target", target)
        pairs: Iterable[tuple[torch.Tensor, torch.Tensor]] = zip(pred.unbind(1), target.unbind(1), strict=True)
    else:
        _checks.integer("classes", classes, low=2)
        pred, target = _labels("pred", pred, classes), _labels("target", target, classes)
        pairs = ((pred == k, target == k) for k in range(classes))
    return torch.stack([metric(p, t, **settings) for p, t in pairs], dim=1)


def _channels(name: str, mask: torch.Tensor) -> None:
    expected = "(B, C, H, W) or (B, C, D, H, W), or be label maps with classes=..."
    _checks.shaped(name, mask, expected, ndim=(4, 5))
    if not mask.shape[1]:
        raise ValueError(f"{name} must have a channel for each class, got shape {tuple(mask.shape)}")


def _labels(name: str, labels: torch.Tensor, classes: int) -> torch.Tensor:
    _checks.shaped(name, labels, "(B, H, W) or (B, D, H, W) with classes=...", ndim=(3, 4))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be label maps of integers with classes={classes}, got {labels.dtype}")
    labels = comparable(labels)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"{name} must hold classes 0..{classes - 1}, got values from {low} to {high}")
    return labels
