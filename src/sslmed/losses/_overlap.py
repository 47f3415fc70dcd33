"""Losses of outlines, for the methods and tasks that learn them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .. import _checks
from .._tensor import compute_dtype


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - soft Dice of one structure.

    Soft Dice is that of each image, smoothed by one pixel so that an empty mask that is predicted empty costs nothing.

    Args:
        logits: (B, 1, H, W).
        target: (B, H, W) of 0 and 1.

    Returns:
        The loss, a scalar of at least float32: the mean over the images.

    Raises:
        TypeError: the logits are not of floating point.
        ValueError: other shapes.

    Example:
        >>> import torch
        >>> dice_bce(torch.full((1, 1, 4, 4), -50.0), torch.zeros(1, 4, 4))
        tensor(0.)
    """
    logits = checked(logits, target, channels=1)
    mask = target[:, None].to(logits.dtype)
    probability = logits.sigmoid()
    overlap = (probability * mask).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    return F.binary_cross_entropy_with_logits(logits, mask) + (1 - (2 * overlap + 1) / (total + 1)).mean()


def checked(logits: Tensor, target: Tensor, *, channels: int | None = None) -> Tensor:
    """Return logits (B, K, H, W) in at least float32; raise unless the target is (B, H, W), and K as given."""
    expected = f"(B, {channels or 'K'}, H, W)"
    _checks.shaped("logits", logits, expected, ndim=4)
    _checks.floating("logits", logits)
    if channels not in (None, logits.shape[1]) or target.shape != logits[:, 0].shape:
        raise ValueError(
            f"logits must have shape {expected} and target (B, H, W), got "
            f"{tuple(logits.shape)} and {tuple(target.shape)}"
        )
    return logits.to(compute_dtype(logits))
