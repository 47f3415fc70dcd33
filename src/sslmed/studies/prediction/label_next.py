"""Which scans to outline next: those that the networks are unsure of, and that differ from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _checks


def choose_next(features: Tensor, uncertainty: Tensor, count: int, *, preferred: Tensor | None = None) -> list[int]:
    """Choose scans one by one: each time the greatest product of uncertainty and distance to the chosen ones.

    This is the greedy k-center choice of Sener and Savarese, weighted by uncertainty. The first scan is the most
    uncertain one. Of equals the first is taken, and no scan is taken that equals a chosen one or has no uncertainty,
    unless there is no other.

    Args:
        features: (N, F), whose Euclidean distances tell scans apart.
        uncertainty: (N,) of at least 0.
        count: how many to choose.
        preferred: (N,) bool, scans that are chosen before any other; None for no such scans.

    Returns:
        Positions of the scans, in the order of the choice: `count`, or N if that is less.

    Raises:
        ValueError: shapes that do not fit, or a negative count.

    Reference:
        Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018,
        Algorithm 1.

    Example:
        >>> features = torch.tensor([[0.0], [0.1], [5.0], [9.0]])
        >>> choose_next(features, torch.tensor([1.0, 0.9, 0.5, 0.1]), 3)
        [0, 2, 3]
        >>> shown = torch.tensor([False, True, False, True])
        >>> choose_next(features, torch.tensor([1.0, 0.9, 0.5, 0.1]), 3, preferred=shown)
        [1, 3, 2]
    """
    _checks.shaped("features", features, "(N, F)", ndim=2)
    _checks.shaped("uncertainty", uncertainty, "(N,)", ndim=1)
    if len(features) != len(uncertainty):
        raise ValueError(f"features and uncertainty must be of the same scans, got {len(features)}, {len(uncertainty)}")
    if preferred is not None and preferred.shape != uncertainty.shape:
        raise ValueError(f"preferred must be of the same scans, got {tuple(preferred.shape)}, {len(uncertainty)}")
    _checks.integer("count", count, low=0)
    points, weights = features.double(), uncertainty.double()
    distance = points.new_full((len(points),), torch.inf)
    free = torch.ones(len(points), dtype=torch.bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        value = weights * distance if chosen else weights
        first = free if preferred is None or not (free & preferred).any() else free & preferred
        best = int(torch.where(first, value, -1.0).argmax())
        chosen.append(best)
        free[best] = False
        distance = torch.minimum(distance, (points - points[best]).norm(dim=1))
    return chosen
