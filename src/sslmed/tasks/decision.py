"""The decision whether an image shows a lesion, by the confidence of a segmentation network."""

from __future__ import annotations

import torch
from torch import Tensor


def confidence(logits: Tensor) -> Tensor:
    """The network's confidence that an image shows the structure: its mean probability over what it outlines.

    Where nothing is outlined, it is the highest probability. The mean over a fixed number of pixels tells less: it
    mixes how sure the network is with how large the structure is.

    Args:
        logits: (N, 1, H, W).

    Returns:
        (N,) in [0, 1]; above 0.5 where something is outlined.
    """
    probability = logits.sigmoid().flatten(1)
    outlined = probability > 0.5
    inside = torch.where(outlined, probability, 0.0).sum(1) / outlined.sum(1).clamp(min=1)
    return torch.where(outlined.any(1), inside, probability.amax(1))


def least_confidence(confidence: Tensor, scores: Tensor, lesion: Tensor) -> float:
    """The threshold of confidence for a lesion with the highest mean score of all images.

    Args:
        confidence: (N,) in [0, 1].
        scores: (N,) Dice of the outlines; of an image without a lesion 1 if nothing is outlined, else 0.
        lesion: (N,) whether an image shows a lesion.

    Returns:
        0 where no image is without a lesion, or a decision does not help; else halfway between two confidences, or
        between the highest one and 1. Images of equal confidence are judged alike.
    """
    order = confidence.argsort()
    kept = torch.where(lesion, 0.0, 1.0)[order]  # the score of an image that is classified as showing none
    gain = (kept - scores[order]).double().cumsum(0)  # if the images up to this one are classified as showing none
    ends = torch.cat([confidence[order].double(), torch.ones(1, dtype=torch.float64)])
    possible = ends[1:] > ends[:-1]
    gain = gain.masked_fill(~possible, -torch.inf)
    best = int(gain.argmax())
    return float(ends[best : best + 2].mean()) if gain[best] > 0 else 0.0
