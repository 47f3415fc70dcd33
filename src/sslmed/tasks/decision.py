"""The decision that an image shows no lesion, by how sure a segmentation network is of what it outlines."""

from __future__ import annotations

import torch
from torch import Tensor


def confidence(logits: Tensor) -> Tensor:
    """How sure the network is that an image shows the structure: the mean of its highest chances (N,), from 0 to 1.

    They are those of one pixel in a hundred: logits (N, 1, H, W).
    """
    chance = logits.sigmoid().flatten(1)
    return chance.topk(max(1, chance.shape[1] // 100), dim=1).values.mean(1)


def least_confidence(confidence: Tensor, scores: Tensor, lesion: Tensor) -> float:
    """The least confidence at which an image is said to show a lesion, with the highest mean score of all images.

    Args:
        confidence: (N,) in [0, 1].
        scores: (N,) of the outlines of images with a lesion; 1 for nothing outlined in an image without one, else 0.
        lesion: (N,) whether an image shows a lesion.

    Returns:
        0 where no image is without a lesion, or a decision does not help; else halfway between two confidences, or
        between the highest one and 1. Images of equal confidence are judged alike.
    """
    order = confidence.argsort()
    kept = torch.where(lesion, 0.0, 1.0)[order]  # the score of an image that is said to show nothing
    gain = (kept - scores[order]).double().cumsum(0)  # if the images up to this one are said to show nothing
    ends = torch.cat([confidence[order].double(), torch.ones(1, dtype=torch.float64)])
    possible = ends[1:] > ends[:-1]
    gain = gain.masked_fill(~possible, -torch.inf)
    best = int(gain.argmax())
    return float(ends[best : best + 2].mean()) if gain[best] > 0 else 0.0
