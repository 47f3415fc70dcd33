"""Losses of outlines, for the methods and tasks that learn them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - soft Dice of one structure: logits (B, 1, H, W), target (B, H, W) of 0 and 1.

    Soft Dice is that of each image, smoothed by one pixel so that an empty mask that is predicted empty costs nothing.
    """
    mask = target[:, None].to(logits.dtype)
    probability = logits.sigmoid()
    overlap = (probability * mask).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    return F.binary_cross_entropy_with_logits(logits, mask) + (1 - (2 * overlap + 1) / (total + 1)).mean()
