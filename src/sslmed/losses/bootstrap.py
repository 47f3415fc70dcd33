"""Losses without negatives: BYOL's and SimSiam's.

Grill et al., "Bootstrap your own latent", NeurIPS 2020, Eq. 2; Chen and He, "Exploring simple Siamese
representation learning", CVPR 2021, Eq. 1. Both are for one direction. The papers use both: average (SimSiam)
or add (BYOL) the losses of (prediction of view 0, target of view 1) and of (prediction of view 1, target of
view 0).
"""

from __future__ import annotations

import torch
from torch import nn

from .._tensor import compute_dtype, unit_rows
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
    dtype = compute_dtype(prediction, target)
    return (unit_rows(prediction.to(dtype)) * unit_rows(target.detach().to(dtype))).sum(dim=1).mean()
