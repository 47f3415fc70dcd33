"""Test whether a pretext learned anything: is its encoder better than the same encoder at its start?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import methods
from ..models import ResUNet, UNet


class _EncoderMaps(nn.Module):
    """The contracting path of a U-Net; unlike `UNetFeatures` it freezes nothing, since all may be in training."""

    def __init__(self, network: UNet | ResUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.network.encoder_maps(x)


def encoder_of(method: methods.Method) -> nn.Module:
    """The network whose features are tested: the encoder, or the contracting path of a U-Net; the rest still learns."""
    network = method.trained
    return _EncoderMaps(network) if isinstance(network, UNet | ResUNet) else network


def compared(before: Sequence[bool], after: Sequence[bool]) -> tuple[int, float]:
    """Compare two networks by which of the same images they get right: 1 if `after` is better, -1 if worse, else 0.

    The exact test of McNemar at 5 %: of the images that only one of the two gets right, chance gives each half.

    Returns:
        The outcome, and the p-value.
    """
    from scipy.stats import binomtest

    gained = sum(bool(b) and not a for a, b in zip(before, after, strict=True))
    lost = sum(bool(a) and not b for a, b in zip(before, after, strict=True))
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return (0 if p >= 0.05 else 1 if gained > lost else -1), p


def verdict(before: Sequence[bool], after: Sequence[bool], *, held_out: bool = True) -> dict[str, Any]:
    """A sentence on whether the encoder matches views of images better than it did before training.

    Args:
        before: whether it found the other view of each image, before training.
        after: the same, after training.
        held_out: whether the pretext did not learn from these images.
    """
    better, p = compared(before, after)
    count, was, now = len(before), sum(before) / len(before), sum(after) / len(after)
    numbers = (
        f"Of {count} {'held-out ' if held_out else ''}images, it finds the other view of the same image in {now:.0%}; "
        f"at its start it did in {was:.0%}, and guessing gives {1 / count:.1%} (p = {p:.2g})."
    )
    few = "held out" if held_out else "compared"
    head = {
        1: "The encoder learned to recognise images.",
        -1: "The encoder became worse than its start: lower the learning rate, or train longer.",
        0: f"No learning is shown: the encoder is not better than its start, or too few images were {few}.",
    }[better]
    return {"sentence": f"{head} {numbers}", "matched": now, "matched_before": was, "p": p, "images": count}
