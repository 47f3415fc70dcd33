"""The Dice loss of several structures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributed import gather
from ..losses._overlap import checked


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice over K classes, background included.

    The multi-label Dice loss of Umapathy et al. Each class's Dice is that of the whole batch, of all processes: in
    single slices, most of which lack a structure, it would be 0 / 0 or near 0 whatever the network predicts.

    Args:
        logits: (B, K, H, W).
        target: (B, H, W) int64 of 0 to K - 1.

    Returns:
        The loss, a scalar of at least float32.

    Raises:
        TypeError: the logits are not of floating point.
        ValueError: other shapes.
    """
    logits = checked(logits, target)
    masks = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    chance = logits.softmax(1)
    sums = torch.stack([(chance * masks).sum((2, 3)), (chance + masks).sum((2, 3))], dim=1)  # (B, 2, K)
    # In validation every process has all cases: gathered, they would count as often as there are processes.
    overlap, total = (gather(sums) if sums.requires_grad else sums).sum(0).unbind()
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()
