"""How far the networks of an ensemble agree on an outline, and how sure they are of it."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from ...metrics import dice

_FLOOR = 0.01  # share of an image: an outline much smaller than that hardly counts


def disagreement(masks: Tensor) -> Tensor:
    """How far outlines of the same images differ: 1 - mean Dice over all pairs of networks; 0 for one network.

    Args:
        masks: (K, B, H, W) bool, of K networks. Two empty masks agree.

    Returns:
        (B,) float32 in [0, 1].

    Example:
        >>> masks = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
        >>> masks[0, 1, 0, 0] = True
        >>> disagreement(masks)
        tensor([0., 1.])
    """
    pairs = [dice(a, b) for a, b in combinations(masks, 2)]
    return 1 - torch.stack(pairs).mean(0).float() if pairs else torch.zeros(masks.shape[1], device=masks.device)


def uncertainty(probabilities: Tensor) -> Tensor:
    """How uncertain an outline is: 1 - mean soft Dice between each network's probabilities and the joint outline.

    It is high where networks disagree, and also where they agree on probabilities near 0.5. The joint outline is where
    the mean probability is above 0.5. Both areas are enlarged by 1 % of an image, so that low probabilities in one
    without an outline do not count as a missed lesion.

    Args:
        probabilities: (K, B, H, W) in [0, 1], of K networks.

    Returns:
        (B,) float32 in [0, 1].

    Example:
        >>> uncertainty(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(2, 3, 10, 10))
        tensor([0.0000, 0.9804, 0.0000])
    """
    probabilities = probabilities.float()
    outline = (probabilities.mean(0) > 0.5).float()
    extra = _FLOOR * outline[0].numel()
    overlap, total = (probabilities * outline).sum((2, 3)), (probabilities + outline).sum((2, 3))
    return 1 - ((2 * overlap + extra) / (total + extra)).mean(0)
