"""Test without labels whether a pretext learned anything: does the encoder recognise images in other views?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import methods
from ..augment import MultiView
from ..models import ResUNet, UNet, UNetFeatures, pooled_features


def encoder_of(method: methods.Method) -> nn.Module:
    """The network whose features are tested: the encoder, or the contracting path of a U-Net; the rest still learns."""
    network = method.trained
    if not isinstance(network, UNet | ResUNet):
        return network
    learning = [p for p in network.parameters() if p.requires_grad]
    encoder = UNetFeatures(network)  # freezes the rest
    for p in learning:
        p.requires_grad_(True)
    return encoder


@torch.no_grad()
def embedded(encoder: nn.Module, images: Tensor, *, batch_size: int = 64) -> Tensor:
    """Unit rows (N, F) of images (N, 1, H, W), in evaluation mode."""
    was_training = encoder.training
    encoder.eval()
    rows = torch.cat([pooled_features(encoder, part).float() for part in images.split(batch_size)])
    encoder.train(was_training)
    return nn.functional.normalize(rows, dim=1)


def matched(encoder: nn.Module, images: Tensor, pair: MultiView) -> list[bool]:
    """For each image, whether the nearest second view to its first view is its own, among those of all images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = pair(images)
    nearest = (embedded(encoder, first) @ embedded(encoder, second).T).argmax(1)
    return (nearest == torch.arange(len(images))).tolist()


def verdict(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    """A sentence on whether the encoder matches views of held-out images better than it did before training.

    The exact test of McNemar: of the images that only one of the two networks matches, chance gives each half.
    """
    from scipy.stats import binomtest

    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    count, was, now = len(before), sum(before) / len(before), sum(after) / len(after)
    numbers = (
        f"Of {count} held-out images, it finds the other view of the same image in {now:.0%}; at its start it did in "
        f"{was:.0%}, and guessing gives {1 / count:.1%} (p = {p:.2g})."
    )
    if p < 0.05 and gained > lost:
        head = "The encoder learned to recognise images."
    elif p < 0.05:
        head = "The encoder became worse than its random start: lower the learning rate, or train longer."
    else:
        head = "No learning is shown: the encoder is not better than its random start, or too few images were held out."
    return {"sentence": f"{head} {numbers}", "matched": now, "matched_before": was, "p": p, "images": count}
