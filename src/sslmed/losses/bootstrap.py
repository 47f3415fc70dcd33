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
from .._tensor import compute_dtype, eager, transformed, unit_rows, unit_rows_and_scale
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
    return 2 - 2 * _mean_cosine(prediction, target)


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
    return -_mean_cosine(prediction, target)


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


def _mean_cosine(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    check_pair(prediction=prediction, target=target)
    prediction, target = plain(prediction), plain(target.detach())
    mean: torch.Tensor = (_MeanCosine.apply if eager(prediction) else _plain_mean_cosine)(prediction, target)
    return mean


class _MeanCosine(Function):
    """`_plain_mean_cosine` with few operations; second derivatives are those of the plain expression."""

    @staticmethod
    def forward(ctx: Any, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        dtype = compute_dtype(prediction, target)
        rows, scale = unit_rows_and_scale(torch.cat([prediction.to(dtype), target.to(dtype)]))
        a, b = rows.chunk(2)
        cosines = (a * b).sum(dim=1, keepdim=True)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(*map(savable, (prediction, target)), rows, scale, cosines)
        return cosines.mean()

    @staticmethod
    def backward(ctx: Any, incoming: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        prediction, target, rows, scale, cosines = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed():
            value = partial(_plain_mean_cosine, prediction, target)
            return *plain_gradients(value, (prediction,), (True,), incoming), None
        a, b = rows.chunk(2)
        gradient = torch.addcmul(b, a, cosines, value=-1)
        return gradient.mul_(scale[: len(a)] * (incoming / len(a))).to(prediction.dtype), None


def _plain_mean_cosine(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    dtype = compute_dtype(prediction, target)
    return (unit_rows(prediction.to(dtype)) * unit_rows(target.to(dtype))).sum(dim=1).mean()
