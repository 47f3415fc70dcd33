"""Losses without negatives: BYOL's and SimSiam's.

Grill et al., "Bootstrap your own latent", NeurIPS 2020, Eq. 2; Chen and He, "Exploring simple Siamese
representation learning", CVPR 2021, Eq. 1. Both are for one direction. The papers use both: average (SimSiam)
or add (BYOL) the losses of (prediction of view 0, target of view 1) and of (prediction of view 1, target of
view 0).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from .._compat import plain
from .._tensor import compute_dtype, eager, scaled_rows, transformed, unit_rows
from ._blocked import plain_gradients, savable
from ._rows import check_pair


def byol(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of unit vectors: the mean of 2 - 2 cos(prediction, target).

    Args:
        prediction: (N, D), from the online network's predictor.
        target: (N, D), the target network's projection of the other view; no gradient flows into it.

    Returns:
        The loss, a scalar in [0, 4] of at least float32: 0 for equal directions, 2 for orthogonal ones, 4 for
        opposite ones. A row of zeros has cosine 0.

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: shapes or devices that do not fit, or an empty batch.

    Example:
        >>> import torch
        >>> byol(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [5.0, 0.0]]))
        tensor(1.)
    """
    return _distance(prediction, target, 2, 2)


def negative_cosine(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean of -cos(prediction, target).

    Args:
        prediction: (N, D), from the predictor.
        target: (N, D), the projection of the other view; no gradient flows into it.

    Returns:
        The loss, a scalar in [-1, 1] of at least float32: -1 for equal directions. A row of zeros has cosine
        0.

    Raises:
        TypeError: a tensor is not of floating point.
        ValueError: shapes or devices that do not fit, or an empty batch.

    Example:
        >>> import torch
        >>> negative_cosine(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [5.0, 0.0]]))
        tensor(-0.5000)
    """
    return _distance(prediction, target, 0, 1)


class BYOL(nn.Module):
    """The loss of BYOL for one direction: `byol` as a module.

    Example:
        >>> import torch
        >>> BYOL()(torch.rand(8, 16), torch.rand(8, 16)).shape
        torch.Size([])
    """

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of prediction (N, D) and target (N, D)."""
        return byol(prediction, target)


class NegativeCosine(nn.Module):
    """The loss of SimSiam for one direction: `negative_cosine` as a module.

    Example:
        >>> import torch
        >>> NegativeCosine()(torch.rand(8, 16), torch.rand(8, 16)).shape
        torch.Size([])
    """

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of prediction (N, D) and target (N, D)."""
        return negative_cosine(prediction, target)


def _distance(prediction: torch.Tensor, target: torch.Tensor, start: int, slope: int) -> torch.Tensor:
    """The mean of start - slope cos(prediction, target)."""
    check_pair(prediction=prediction, target=target)
    prediction, target = plain(prediction), plain(target.detach())
    if not eager(prediction):
        return _plain_distance(prediction, target, start, slope)
    if prediction.requires_grad and torch.is_grad_enabled():
        result: torch.Tensor = _Distance.apply(prediction, target, start, slope)
        return result
    return _value(prediction, target, start, slope)[0]


class _Distance(Function):
    """`_plain_distance` with few operations; second derivatives are those of the plain expression."""

    @staticmethod
    def forward(ctx: Any, prediction: torch.Tensor, target: torch.Tensor, start: int, slope: int) -> torch.Tensor:
        value, *kept = _value(prediction, target, start, slope)
        ctx.settings = start, slope
        ctx.save_for_backward(savable(prediction), savable(target), *kept)
        return value

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        prediction, target, a, b, along, factor, scale = ctx.saved_tensors
        start, slope = ctx.settings
        if torch.is_grad_enabled() or transformed():
            value = partial(_plain_distance, prediction, target, start, slope)
            return *plain_gradients(value, (prediction,), (True,), incoming), None, None, None
        gradient = torch.addcmul(b, a, along, value=-1)
        gradient *= factor * scale * (incoming * (-slope / a.shape[0]))
        return gradient.to(dtype=prediction.dtype), None, None, None


def _value(prediction: torch.Tensor, target: torch.Tensor, start: int, slope: int) -> tuple[torch.Tensor, ...]:
    """The loss, and what backward needs: rows a and b, how much of b is along a, b's factor and the scale of a."""
    dtype = compute_dtype(prediction, target)
    (a, to_unit, scale), (b, factor, ones) = scaled_rows(prediction.to(dtype=dtype), target.to(dtype=dtype))
    to_unit, factor = (scale, ones) if to_unit is None or factor is None else (to_unit, factor)
    projection = (a * b).sum(dim=1, keepdim=True) * to_unit
    cosines = projection * factor
    return torch.rsub(cosines.mean(), start, alpha=slope), a, b, projection * to_unit, factor, scale


def _plain_distance(prediction: torch.Tensor, target: torch.Tensor, start: int, slope: int) -> torch.Tensor:
    dtype = compute_dtype(prediction, target)
    return start - slope * (unit_rows(prediction.to(dtype)) * unit_rows(target.to(dtype))).sum(dim=1).mean()
